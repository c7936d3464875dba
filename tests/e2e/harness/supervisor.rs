//! A supervisor of the test's own: shell commands ask it to restart instances, and wait until it has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lameduck::tools::demo::instance::DemoInstance;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Bench, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// Owns the instances while it works.
pub struct Supervisor {
    dir: PathBuf,
    stop: watch::Sender<bool>,
    task: JoinHandle<Vec<DemoInstance>>,
}

impl Supervisor {
    /// Takes over the instances of a bench.
    pub fn start(bench: &mut Bench) -> Self {
        let dir = bench.scratch.path().join("supervisor");
        std::fs::create_dir_all(&dir).unwrap();
        let (stop, stopped) = watch::channel(false);
        let instances = std::mem::take(&mut bench.instances);
        let task = tokio::spawn(serve(dir.clone(), instances, stopped));
        Self { dir, stop, task }
    }

    /// The shell script that restarts the instance named `$1`, and ends when the new process runs. Each has files of its
    /// own: one that a killed roll has left behind may still be about to end when the next one for this instance begins.
    pub fn restart(&self) -> Vec<String> {
        self.restart_after(":")
    }

    /// The same; it begins its work with the test's [`Self::go`].
    pub fn held_restart(&self) -> Vec<String> {
        let dir = self.dir.display();
        self.restart_after(&format!("while [ ! -e {dir}/go ]; do sleep 0.01; done"))
    }

    pub fn go(&self) {
        std::fs::write(self.dir.join("go"), "").unwrap();
    }

    fn restart_after(&self, wait: &str) -> Vec<String> {
        let dir = self.dir.display();
        let script = format!(
            ": > {dir}/$1.begun; {wait}; : > {dir}/$1.$$.ask; while [ ! -e {dir}/$1.$$.done ]; do sleep 0.01; done"
        );
        ["sh", "-c", &script, "restart", "{name}"]
            .map(str::to_owned)
            .to_vec()
    }

    /// A script that does nothing, for as long as the test runs.
    pub fn endless(&self) -> Vec<String> {
        let dir = self.dir.display();
        let script = format!(": > {dir}/$1.begun; while [ -e {dir} ]; do sleep 0.1; done");
        ["sh", "-c", &script, "endless", "{name}"]
            .map(str::to_owned)
            .to_vec()
    }

    /// Waits until the script for this instance runs.
    pub async fn begun(&self, name: &str) {
        let file = self.dir.join(format!("{name}.begun"));
        until("the command", PATIENCE, async || take(&file)).await;
    }

    /// Gives the instances back.
    pub async fn end(self, bench: &mut Bench) {
        self.stop.send(true).unwrap();
        bench.instances = self.task.await.unwrap();
    }
}

async fn serve(
    dir: PathBuf,
    mut instances: Vec<DemoInstance>,
    stopped: watch::Receiver<bool>,
) -> Vec<DemoInstance> {
    while !*stopped.borrow() {
        for instance in &mut instances {
            if let Some(asked) = asked(&dir, instance.name()) {
                assert!(take(&asked));
                instance.terminate().unwrap();
                instance.exited(PATIENCE).await.unwrap();
                instance.start_again().await.unwrap();
                std::fs::write(asked.with_extension("done"), "").unwrap();
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    instances
}

/// The file by which a script asks to restart this instance, if one does.
fn asked(dir: &Path, name: &str) -> Option<PathBuf> {
    let begin = format!("{name}.");
    let files = std::fs::read_dir(dir).ok()?.flatten();
    files.map(|file| file.path()).find(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&begin) && file.ends_with(".ask")
    })
}

fn take(file: &Path) -> bool {
    std::fs::remove_file(file).is_ok()
}
