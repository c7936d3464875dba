//! Moves open connections to the process that has taken over, and accepts those from the process before this one.
//!
//! Each connection is offered with its descriptors, and belongs to the old process until that has written the word
//! (see [`crate::core::moving`]): a connection that could not be moved continues in the old process.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use crate::core::rate::table::OpenBucket;
use crate::proxy::accept::adopt::AdoptedConnection;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::moving::{MoveClaim, MoveCount, MovedConnection, OfferedConnection};
use crate::rt::clock;
use crate::server::workers::DataThreads;
use crate::upgrade::channel::ChannelSender;
use crate::upgrade::protocol::UpgradeFrame;

/// Longest wait for connections that can move immediately.
const PATIENCE: Duration = Duration::from_secs(1);

/// Interval of the checks on connections that wait for their answer.
const LOOK: Duration = Duration::from_millis(1);

/// Connections that were offered and wait for an answer. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct MoveOffers(Arc<Mutex<HashMap<u64, MoveClaim>>>);

impl MoveOffers {
    /// Handles an accepted offer: writes the word, and then releases the connection.
    pub(super) async fn adopted(&self, number: u64, outgoing: &ChannelSender) {
        let claim = self.0.lock().remove(&number);
        let Some(claim) = claim else { return };
        // If the word can't be written, the claim is dropped, and the connection continues here.
        if outgoing.send(&UpgradeFrame::Moved { number }).await.is_ok() {
            claim.confirm_given();
        }
    }

    /// Handles a declined offer: the connection continues here.
    pub(super) fn declined(&self, number: u64, why: &str) {
        debug!(number, why, "a connection stays");
        drop(self.0.lock().remove(&number));
    }

    /// Handles the end of the new process: all connections continue here.
    pub(super) fn all_declined(&self) {
        self.0.lock().clear();
    }
}

/// Sends the request counts of clients whose request rate is limited.
pub(super) async fn give_rates(plane: &DataPlane, outgoing: &ChannelSender) {
    let witness = plane.guards.hash_witness();
    for open in plane.guards.open_buckets(clock::now()) {
        if open.is_empty() {
            continue;
        }
        let buckets = open.iter();
        let buckets = buckets.map(|one| (one.key, clock::to_machine(one.full_at)));
        let buckets = buckets.collect();
        let frame = UpgradeFrame::Rates { witness, buckets };
        if outgoing.send(&frame).await.is_err() {
            return;
        }
    }
}

/// Takes over these counts from the process before this one.
pub(super) fn take_rates(plane: &DataPlane, witness: u64, buckets: &[(u64, u64)]) {
    // Another release may hash clients in another way: its counts would match no client.
    if witness != plane.guards.hash_witness() {
        debug!("what clients have used of their rates begins anew");
        return;
    }
    let buckets = buckets.iter().map(|(key, full_at)| OpenBucket {
        key: *key,
        full_at: clock::from_machine(*full_at),
    });
    plane.guards.take_buckets(buckets, clock::now());
}

/// Offers open connections for as long as this process lives; reports how many moved immediately.
pub(super) fn move_connections(
    plane: Arc<DataPlane>,
    outgoing: ChannelSender,
    offers: MoveOffers,
) -> oneshot::Receiver<MoveCount> {
    let (offer, offered) = mpsc::unbounded_channel();
    let (tell, told) = oneshot::channel();
    tokio::spawn(carry(offered, outgoing, offers));
    tokio::spawn(async move {
        let under_way = plane.move_out(offer);
        let began = clock::now();
        let mut count = under_way.settled(PATIENCE).await;
        while count.offered > 0 && clock::now() < began + PATIENCE {
            clock::sleep(LOOK).await;
            count = under_way.count();
        }
        let _ = tell.send(count);
        // A connection with a request in progress moves after the response.
        std::future::pending::<()>().await;
    });
    told
}

async fn carry(
    mut offered: mpsc::UnboundedReceiver<OfferedConnection>,
    outgoing: ChannelSender,
    offers: MoveOffers,
) {
    let mut number = 0;
    while let Some(OfferedConnection { moved, claim }) = offered.recv().await {
        let Ok(state) = serde_json::to_value(&moved.state) else {
            continue;
        };
        number += 1;
        offers.0.lock().insert(number, claim);
        let beside: Vec<_> = moved.descriptors.iter().map(|one| one.as_fd()).collect();
        let frame = UpgradeFrame::Connection { number, state };
        if let Err(error) = outgoing.send_with(&frame, &beside).await {
            offers.declined(number, &error.to_string());
        }
    }
}

/// Connections that have come from the process before this one.
pub(super) struct MoveArrivals {
    plane: Arc<DataPlane>,
    threads: Arc<DataThreads>,
    held: HashMap<u64, AdoptedConnection>,
}

impl MoveArrivals {
    /// Creates the receiver of connections to be served here.
    pub(super) fn new(plane: Arc<DataPlane>, threads: Arc<DataThreads>) -> Self {
        Self {
            plane,
            threads,
            held: HashMap::new(),
        }
    }

    /// Handles an offered connection: nothing is read or written on it until the word has arrived.
    pub(super) fn offered(
        &mut self,
        number: u64,
        state: Value,
        descriptors: Vec<OwnedFd>,
    ) -> UpgradeFrame {
        let declined = |why: String| UpgradeFrame::Declined { number, why };
        let state = match serde_json::from_value(state) {
            Ok(state) => state,
            Err(error) => return declined(error.to_string()),
        };
        match self.plane.adopt(MovedConnection { descriptors, state }) {
            Ok(adopted) => {
                self.held.insert(number, adopted);
                UpgradeFrame::Adopted { number }
            }
            Err(error) => declined(error.to_string()),
        }
    }

    /// Handles the word for a connection.
    pub(super) fn moved(&mut self, number: u64) {
        if let Some(adopted) = self.held.remove(&number) {
            self.threads.deal(adopted.serve());
        }
    }
}
