//! Instances of the demo's app, and what the oracle is told of them; also of apps that somebody else has started, a launcher
//! or a supervisor.

use std::path::Path;

use lameduck::tools::demo::instance::{DemoInstance, Program};
use lameduck::tools::demo::journal::{self, JournalLine};
use lameduck::tools::demo::oracle::{Evidence, Life, LoadAccount, Sent};

/// Starts an instance for each name; they write into this directory.
pub async fn launch(
    names: impl IntoIterator<Item = impl AsRef<str>>,
    program: &Program,
    dir: &Path,
) -> Vec<DemoInstance> {
    let mut instances = Vec::new();
    for name in names {
        let launched = DemoInstance::launch(name.as_ref(), program, dir).await;
        instances.push(launched.unwrap());
    }
    instances
}

/// `app-1` and so on.
pub fn names(count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(|n| format!("app-{n}"))
}

/// The lives of all processes of these instances.
pub fn lives_of(instances: &[DemoInstance]) -> Vec<Life> {
    let lives = instances.iter().flat_map(|one| one.lives().unwrap());
    lives.collect()
}

/// A life as the app wrote it down itself. Nobody but the app sees the signal of a supervisor: it was told to stop when its own
/// handler says so.
pub fn life_in(name: &str, journal: &Path) -> Life {
    let lines = journal::read(journal).unwrap();
    let instant = |event| Some(lines.iter().find(|line| line.event == event)?.t);
    let arrival = |line: &JournalLine| Some((line.id.as_ref()?.parse().ok()?, line.t));
    let arrivals = lines.iter().filter(|line| line.event == "arrival");
    Life {
        name: name.to_owned(),
        signalled: instant("signalled"),
        exited: instant("exit"),
        arrivals: arrivals.filter_map(arrival).collect(),
    }
}

/// The lives in all journals of a directory, one for each process.
pub fn lives_in(journals: &Path) -> Vec<Life> {
    let files = std::fs::read_dir(journals).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths
        .map(|path| life_in(&path.file_stem().unwrap().to_string_lossy(), &path))
        .collect()
}

/// What can be said of a load from what was sent and which lives it met.
pub fn evidence(sent: Vec<Sent>, lives: Vec<Life>) -> Evidence {
    Evidence {
        sent,
        lives,
        ..Evidence::default()
    }
}

/// The account of a load.
pub fn account(sent: Vec<Sent>, lives: Vec<Life>) -> LoadAccount {
    LoadAccount::of(&evidence(sent, lives))
}
