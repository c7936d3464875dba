//! Somebody on the same machine, behind a lameduck that nobody attacks, and before apps that nobody else uses. What an
//! attack does to that traffic is done by sharing a machine with the attackers, and by no proxy.

use lameduck::tools::demo::load::Load;
use lameduck::tools::demo::oracle::Sent;
use lameduck::tools::demo::proxy::ProxySettings;

use super::{load, proxy};
use crate::harness::Bench;
use crate::harness::apps::App;
use crate::harness::front::Front;

pub struct Bystander {
    load: Load,
    // Its apps outlive it.
    _front: Front,
    _bench: Bench,
}

impl Bystander {
    /// With so many requests a second.
    pub async fn start(rate: u32) -> Option<Self> {
        let bench = Bench::start("bystander", App::BuiltIn, 3).await?;
        let mut front = Front::lameduck(&bench, &ProxySettings::default()).await;
        proxy(&mut front).eligible().await.unwrap();
        Some(Self {
            load: load(front.address(), rate, None),
            _front: front,
            _bench: bench,
        })
    }

    /// What it has sent, and what became of it.
    pub async fn stop(self) -> Vec<Sent> {
        self.load.stop().await
    }
}
