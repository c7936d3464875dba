//! What routes change of requests to backends that speak HTTP/2.

use http::{HeaderMap, Response};
use lameduck_rig::h2_client::{Client, answer, get, soon};
use lameduck_rig::proxy::{Rig, Setup};
use tokio::net::TcpListener;

use super::fake::HTTP2;

/// As many fields as rules can write, besides as many as a head can have.
const MOST: usize = 16;

fn tables() -> &'static str {
    let list = |prefix: &str| {
        let fields: Vec<_> = (0..MOST)
            .map(|n| format!("{prefix}-{n} = \"{{path}} {n}\""))
            .collect();
        fields.join(", ")
    };
    let rules = format!(
        "set = {{ {} }}\nadd = {{ {} }}\n",
        list("X-Set"),
        list("X-Add")
    );
    let text = format!(
        "http2 = true\n[[route]]\npool = \"app\"\nrewrite = \"/new{{rest}}\"\n[route.request_headers]\n{rules}remove = [\"X-Gone\"]\n\
         [route.response_headers]\n{rules}remove = [\"X-Gone\"]\n\
         [[route]]\nhost = \"b\"\npool = \"app\"\nrequest_headers = {{ set = {{ Host = \"app.internal:81\" }} }}\n"
    );
    text.leak()
}

/// Answers each request with a head of so many fields, and sends what it was asked.
async fn serve(
    listener: TcpListener,
    fields: usize,
    seen: tokio::sync::mpsc::UnboundedSender<(String, HeaderMap)>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let seen = seen.clone();
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let _ = seen.send((request.uri().to_string(), request.headers().clone()));
                let mut response = Response::builder()
                    .header("x-gone", "1")
                    .header("x-set-1", "theirs");
                for n in 2..fields {
                    response = response.header(format!("x-own-{n}"), "1");
                }
                respond
                    .send_response(response.body(()).unwrap(), true)
                    .unwrap();
            }
        });
    }
}

#[lameduck_rig::test]
async fn rules_apply_between_all_protocols_with_the_fullest_heads() {
    let mut rig = Rig::new(Setup {
        pool: HTTP2,
        tables: tables(),
        ..Setup::default()
    })
    .await;
    let listener = TcpListener::from_std(rig.backends[0].take_listener()).unwrap();
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let server = tokio::spawn(serve(listener, 95, sender));
    let own: String = (0..90).map(|n| format!("X-Own-{n}: 1\r\n")).collect();
    let mut client = rig
        .ask(format!(
            "GET /x?y HTTP/1.1\r\nHost: a\r\nX-Gone: 1\r\nx_set_3: evil\r\n{own}\r\n"
        ))
        .await;
    let old = client.response().await;
    assert_eq!(old.status(), 200, "{}", old.head);
    assert!(
        old.has("X-Set-1: /x 1") && old.has("X-Add-15: /x 15"),
        "{}",
        old.head
    );
    assert!(
        !old.head.contains("theirs") && !old.head.contains("x-gone"),
        "{}",
        old.head
    );
    let mut client = Client::new(&rig).await;
    let mut request = get("/x?y");
    for n in 0..90 {
        let name = http::HeaderName::try_from(format!("x-own-{n}")).unwrap();
        request.headers_mut().insert(name, "1".parse().unwrap());
    }
    let (response, _) = client.begin(request, true).await;
    let new = answer(response).await;
    assert_eq!(
        (new.status(), new.field("x-set-1"), new.field("x-gone")),
        (200, Some("/x 1"), None)
    );
    for _ in 0..2 {
        let (uri, fields) = soon(seen.recv()).await.unwrap();
        assert_eq!(uri, "http://a/new/x?y");
        assert_eq!(
            fields.get_all("x-set-3").iter().collect::<Vec<_>>(),
            ["/x 3"]
        );
        assert!(!fields.contains_key("x_set_3") && !fields.contains_key("x-gone"));
        assert_eq!(fields["x-own-89"], "1");
    }
    let mut client = rig.ask("GET / HTTP/1.1\r\nHost: b\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 200);
    assert_eq!(
        soon(seen.recv()).await.unwrap().0,
        "http://app.internal:81/"
    );
    server.abort();
}
