//! Carries connections from one plane to another over a unix socket, as two processes do.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use lameduck::proxy::moving::{MoveCount, MovedConnection, MovedState};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::plane::TestPlane;

/// How many connections the taker refuses, by chance.
#[derive(Debug, Clone, Copy)]
pub enum Refusals {
    None,
    OneIn(u32),
    All,
}

/// Nothing is offered for so long: it is over.
const QUIET: Duration = Duration::from_millis(100);

/// Hands over what moves, until nothing is offered any more and what has come of it is as the test expects.
pub async fn hand_over(
    old: &TestPlane,
    next: &TestPlane,
    refusals: Refusals,
    is_over: impl Fn(&MoveCount) -> bool,
    rng: &mut fastrand::Rng,
) -> MoveCount {
    let (offers, mut queue) = tokio::sync::mpsc::unbounded_channel();
    let (near, far) = UnixStream::pair().unwrap();
    let under_way = old.plane.move_out(offers);
    let mut quiet_since = std::time::Instant::now();
    let mut given = 0;
    loop {
        let Ok(offered) = tokio::time::timeout(QUIET, queue.recv()).await else {
            if is_over(&under_way.count()) {
                break;
            }
            let waited = quiet_since.elapsed();
            assert!(
                waited < Duration::from_secs(10),
                "{} clients stay: {:?}",
                old.clients(),
                under_way.count()
            );
            continue;
        };
        quiet_since = std::time::Instant::now();
        let offered = offered.unwrap();
        let moved = over_the_wire(&near, &far, offered.moved);
        let adopted = match next.plane.adopt(moved) {
            Ok(adopted) => adopted,
            // The claim is dropped: it stays.
            Err(_) => continue,
        };
        let is_refused = match refusals {
            Refusals::None => false,
            Refusals::OneIn(count) => rng.u32(..count) == 0,
            Refusals::All => true,
        };
        if is_refused {
            // In either order.
            match rng.bool() {
                true => drop(adopted),
                false => drop(offered.claim),
            }
            continue;
        }
        if rng.u8(..4) == 0 {
            tokio::time::sleep(Duration::from_millis(rng.u64(..5))).await;
        }
        offered.claim.confirm_given();
        given += 1;
        next.threads.deal(adopted.serve());
    }
    let count = under_way.settled(Duration::from_secs(1)).await;
    assert!(count.given <= given, "{count:?} of {given}");
    count
}

fn over_the_wire(near: &UnixStream, far: &UnixStream, moved: MovedConnection) -> MovedConnection {
    let MovedConnection { descriptors, state } = moved;
    let text = serde_json::to_vec(&state).unwrap();
    let borrowed: Vec<_> = descriptors
        .iter()
        .map(|descriptor| descriptor.as_fd())
        .collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    let length = (text.len() as u64).to_be_bytes();
    sendmsg(
        near,
        &[IoSlice::new(&length)],
        &mut control,
        SendFlags::empty(),
    )
    .unwrap();
    // The state may be more than the socket takes at once: another thread writes it.
    let text = std::thread::scope(|scope| {
        let writing = scope.spawn(|| std::io::Write::write_all(&mut &*near, &text).unwrap());
        let (descriptors, text) = receive(far);
        writing.join().unwrap();
        (descriptors, text)
    });
    let (received, text) = text;
    drop(descriptors);
    let state: MovedState = serde_json::from_slice(&text).unwrap();
    assert!(text.len() < 512 * 1024, "{} bytes", text.len());
    MovedConnection {
        descriptors: received,
        state,
    }
}

fn receive(far: &UnixStream) -> (Vec<OwnedFd>, Vec<u8>) {
    let mut length = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(
        far,
        &mut [IoSliceMut::new(&mut length)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    assert_eq!(got.unwrap().bytes, 8);
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let mut text = vec![0; u64::from_be_bytes(length) as usize];
    std::io::Read::read_exact(&mut &*far, &mut text).unwrap();
    (descriptors, text)
}
