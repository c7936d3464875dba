//! Moves an idle client connection to another process, and serves one that has come from there.

use std::sync::Arc;

use pingora::protocols::Stream;

use super::close::close;
use super::serve::{HeadWait, serve_requests};
use crate::config::Config;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::h1::request::RequestHead;
use crate::proxy::moving::MovedConnection;
use crate::proxy::moving::state::{IdleClient, MovedKind};
use crate::proxy::transaction::moved::ResumedRequest;
use crate::rt::clock;
use crate::rt::shutdown_signal::ConnectionInterrupt;

/// Offers a connection that waits for a request to the next process. Returns true if that process has taken it.
pub(super) async fn offer_idle(
    plane: &DataPlane,
    client: &mut ClientConnection,
    waiting: &HeadWait,
) -> bool {
    let (socket, moved) = match client.export() {
        Ok(exported) => exported,
        Err(reason) => {
            // If bytes are left to read, the next hand-over asks this connection again.
            client.interrupt.decline(reason.code(), reason.is_lasting());
            return false;
        }
    };
    let idle = IdleClient {
        client: moved,
        since_ns: clock::to_machine(waiting.since),
        head_began_ns: client.head_began.map(clock::to_machine),
    };
    let moved = MovedConnection {
        descriptors: vec![socket],
        state: MovedKind::IdleClient(idle).into(),
    };
    plane.moving.offer(&client.interrupt, moved).await
}

/// Serves a client whose connection was idle in another process.
pub async fn serve_idle(
    plane: &Arc<DataPlane>,
    stream: Stream,
    idle: IdleClient,
    interrupt: Arc<ConnectionInterrupt>,
    config: &Config,
) {
    let mut client = ClientConnection::import(stream, idle.client, interrupt, config);
    client.head_began = idle.head_began_ns.map(clock::from_machine);
    let mut head = RequestHead::new();
    let waiting = HeadWait::continued(clock::from_machine(idle.since_ns), client.requests == 0);
    let next = serve_requests(plane, &mut client, &mut head, &config.server, waiting).await;
    close(&mut client, next).await;
    std::mem::take(&mut client.buffer).give_back();
}

/// Like [`serve_idle`], for a connection that moved in the middle of a request.
pub async fn serve_resumed(
    plane: &Arc<DataPlane>,
    mut client: ClientConnection,
    request: ResumedRequest,
    config: &Arc<Config>,
) {
    let mut head = RequestHead::new();
    // Boxed, so that its memory is freed before the connection is idle.
    let resuming = Box::pin(request.resume(plane, &mut client, &mut head, config));
    let next = match resuming.await {
        AfterRequest::KeepAlive => {
            let waiting = HeadWait::continued(clock::now(), false);
            serve_requests(plane, &mut client, &mut head, &config.server, waiting).await
        }
        next => next,
    };
    close(&mut client, next).await;
    std::mem::take(&mut client.buffer).give_back();
}
