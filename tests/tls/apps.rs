//! Real instances of the demo app behind a proxy with TLS, and the account of what became of each request.

use std::net::SocketAddr;

use lameduck::tools::demo::instance::{DemoInstance, Program};
use lameduck::tools::demo::load::Load;
use lameduck::tools::demo::oracle::LoadAccount;
use lameduck::tools::demo::scratch::ScratchDir;

use lameduck_rig::oracle;

use super::rig::exe;

/// The instances, and the directory that they log to.
pub struct Apps {
    pub instances: Vec<DemoInstance>,
    _scratch: ScratchDir,
}

impl Apps {
    /// Starts one for each name.
    pub async fn start(names: &[&str]) -> Self {
        let scratch = ScratchDir::new("lameduck-tls-apps").unwrap();
        let program = Program::built_in(exe());
        let instances = oracle::launch(names, &program, scratch.path()).await;
        Self {
            instances,
            _scratch: scratch,
        }
    }

    /// As a proxy's configuration has them.
    pub fn backends(&self) -> Vec<(String, SocketAddr)> {
        let named = |one: &DemoInstance| (one.name().to_owned(), one.address());
        self.instances.iter().map(named).collect()
    }

    /// Ends the load: nothing was lost, reached a stopping instance, or was delivered twice.
    pub async fn clean_account(&self, load: Load) -> LoadAccount {
        let sent = load.stop().await;
        // Requests arrive until the load has ended.
        let account = oracle::account(sent, oracle::lives_of(&self.instances));
        assert!(
            account.is_clean() && account.delivered_twice == 0,
            "{account}"
        );
        account
    }
}
