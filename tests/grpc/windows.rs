//! Windows: a stream that waits for room holds nobody up.

use std::time::Duration;

use bytes::Bytes;

use super::fake::{Event, Fake, HTTP2, WINDOW, rig};
use lameduck_rig::h2_client::{Client, answer, post, rest, soon};

#[lameduck_rig::test]
async fn a_request_without_room_waits_and_holds_nobody_up() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = Client::new(&rig).await;
    let (response, mut body) = client.begin(post("/"), false).await;
    body.send_data(Bytes::from_static(b"starved"), true)
        .unwrap();
    let mut backend = Fake::accept(&listeners[0], &[(WINDOW, 0)]).await;
    assert_eq!(
        backend
            .until(|event| match event {
                Event::Request(id, false) => Some(*id),
                _ => None,
            })
            .await,
        1
    );
    let other = client.get("/").await;
    let (id, _) = backend.request().await;
    backend.answer(id, "fed").await;
    assert_eq!(answer(other).await.text(), "fed");
    for letter in b"starved" {
        backend.window(1, 1).await;
        let piece = backend.until(|event| match event {
            Event::Data(1, data, _) => Some(data.clone()),
            _ => None,
        });
        assert_eq!(piece.await, [*letter]);
    }
    backend.answer(1, "fed, too").await;
    assert_eq!(answer(response).await.text(), "fed, too");
}

/// The backend is stopped by what the client has not read, and the session's other streams are not.
#[lameduck_rig::test]
async fn a_client_that_does_not_read_holds_nobody_up() {
    const MOST: usize = 32 * 1024 * 1024;
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut slow = Client::new(&rig).await;
    let response = slow.get("/large").await;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let (id, _) = backend.request().await;
    backend.head(id, &[], false).await;
    let large = soon(response).await.unwrap().into_body();
    let piece = vec![b'x'; 16 * 1024];
    let (mut window, mut sent) = (128 * 1024, 0);
    loop {
        while window >= piece.len() {
            backend.data(id, &piece, false).await;
            window -= piece.len();
            sent += piece.len();
        }
        assert!(sent < MOST, "it is never stopped");
        match backend.next_within(Duration::from_millis(300)).await {
            Some(Event::Window(of, more)) if of == id => window += more as usize,
            Some(_) => {}
            None => break,
        }
    }
    let mut quick = Client::new(&rig).await;
    let other = quick.get("/").await;
    let (other_id, _) = backend.request().await;
    backend.answer(other_id, "quick").await;
    assert_eq!(answer(other).await.text(), "quick");
    // And it gets all of it, once it reads.
    let reading = tokio::spawn(rest(large));
    while window == 0 {
        match backend.next().await {
            Event::Window(of, more) if of == id => window += more as usize,
            _ => {}
        }
    }
    backend.data(id, b"", true).await;
    assert_eq!(reading.await.unwrap().unwrap().0.len(), sent);
}
