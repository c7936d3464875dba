//! Contexts of clients of HTTP/2, and the bounds of what they carry.

use http::{HeaderName, HeaderValue};
use lameduck_rig::collector::{Collector, Mood};
use lameduck_rig::h2_client::{Client, answer, get};
use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::field;

use super::{CALLER, TRACE, parent_of};

/// A request with these fields over HTTP/2; what its backend got of it.
async fn ask(rig: &Rig, client: &mut Client, fields: &[(&'static str, String)]) -> String {
    let mut request = get("/");
    for (name, value) in fields {
        request.headers_mut().append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let (response, _) = client.begin(request, true).await;
    let (_, mut backend) = rig.first().await;
    let head = backend.head().await;
    backend.answer_and_close("x").await;
    assert_eq!(answer(response).await.text(), "x");
    head
}

/// Whatever a stranger writes there, the backend gets a sound context, or none.
#[lameduck_rig::test]
async fn broken_contexts_of_http2_clients_go_nowhere_and_states_are_bounded() {
    let collector = Collector::new(Mood::Good).await;
    let tables = collector.tables("sample = 0.0");
    let rig = Rig::new(Setup {
        tables: format!("http2 = true\n{tables}").leak(),
        ..Setup::default()
    })
    .await;
    let mut client = Client::new(&rig).await;
    let good = format!("00-{TRACE}-{CALLER}-01");
    let parent = |value: &str| ("traceparent", value.to_owned());
    let state = |value: String| ("tracestate", value);
    for broken in [
        vec![parent(&good), parent(&good)],
        vec![
            parent(&good),
            parent(&good.replace("00-", "01-")),
            state("a=1".to_owned()),
        ],
        vec![parent(&format!("{good},{good}"))],
        vec![parent(&good.to_uppercase())],
        vec![parent(&good.replacen("00-", "ff-", 1))],
        vec![parent(&format!("{good}-more"))],
        vec![parent(&good.replace(TRACE, &"0".repeat(32)))],
        vec![parent(&good.replace(CALLER, &"0".repeat(16)))],
        vec![parent("")],
        vec![parent(&"0".repeat(5000)), state("a=1".to_owned())],
    ] {
        let head = ask(&rig, &mut client, &broken).await.to_ascii_lowercase();
        assert!(!head.contains("trace"), "{broken:?}: {head}");
    }
    // All that a state may have, in several fields, is one field in their order.
    let members = |range: std::ops::Range<usize>| {
        let members = range.map(|n| format!("k{n}=v"));
        members.collect::<Vec<_>>().join(",")
    };
    let long = |bytes: usize| format!("a={},b={}", "x".repeat(256), "y".repeat(bytes - 261));
    for (states, passed) in [
        (vec![members(0..16), members(16..32)], Some(members(0..32))),
        (vec![members(0..33)], None),
        (vec![long(517)], Some(long(517))),
        (vec![long(518)], None),
        (vec!["a=1,a=2".to_owned()], None),
        (vec!["a=1".to_owned(), "A=2".to_owned()], None),
        (vec![",".repeat(5000)], None),
    ] {
        let mut fields = vec![parent(&good)];
        fields.extend(states.iter().cloned().map(state));
        let head = ask(&rig, &mut client, &fields).await;
        assert_eq!(format!("{:032x}", parent_of(&head).trace), TRACE);
        assert_eq!(field(&head, "tracestate"), passed.as_deref(), "{states:?}");
        let count = head.to_ascii_lowercase().matches("tracestate").count();
        assert_eq!(count, usize::from(passed.is_some()));
    }
    assert_eq!(collector.spans(14).await.len(), 14);
}
