//! An instance of an app: a port, and the processes that use it one after another.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::journal;
use super::oracle::Life;
use super::process::ChildProcess;

/// How to start an app: a command that understands `--name N --port P --log FILE`, as the built-in one does,
/// and prints `{"address":"HOST:PORT"}` once it listens.
#[derive(Debug, Clone)]
pub struct Program(Vec<OsString>);

impl Program {
    /// A command, given as its words.
    pub fn new<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Self {
        Self(words.into_iter().map(Into::into).collect())
    }

    /// The built-in app, as part of the lameduck binary `exe`.
    pub fn built_in(exe: &Path) -> Self {
        Self::new([exe.as_os_str().to_owned(), "demo-app".into()])
    }

    /// The command with further arguments.
    pub fn with(mut self, words: &[&str]) -> Self {
        self.0.extend(words.iter().map(OsString::from));
        self
    }
}

/// A process of the instance, past or present.
#[derive(Debug, Clone)]
struct InstanceRecord {
    journal: PathBuf,
    signalled: Option<u64>,
    exited: Option<u64>,
}

/// A running instance.
#[derive(Debug)]
pub struct DemoInstance {
    name: String,
    program: Program,
    dir: PathBuf,
    address: SocketAddr,
    process: ChildProcess,
    records: Vec<InstanceRecord>,
}

impl DemoInstance {
    /// Starts the first process, on a free port. Journals are kept in `dir`.
    ///
    /// # Errors
    /// It doesn't start, or doesn't listen.
    pub async fn launch(name: &str, program: &Program, dir: &Path) -> Result<Self> {
        let (process, address, record) = begin(name, program, dir, 0, 1).await?;
        let (name, program, dir) = (name.to_owned(), program.clone(), dir.to_owned());
        Ok(Self {
            name,
            program,
            dir,
            address,
            process,
            records: vec![record],
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Address at which all its processes listen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The current process.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.process
    }

    /// Number of processes so far, including the current one.
    pub fn generation(&self) -> usize {
        self.records.len()
    }

    /// Sends SIGTERM, and records the time before.
    ///
    /// # Errors
    /// The process has ended already.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal_end(libc::SIGTERM)
    }

    /// Sends a signal that ends the process, and records the time before.
    ///
    /// # Errors
    /// The process has ended already.
    pub fn signal_end(&mut self, signal: i32) -> Result<()> {
        let before = self.process.signal(signal)?;
        if let Some(record) = self.records.last_mut() {
            record.signalled = Some(before);
        }
        Ok(())
    }

    /// Waits for the process to exit; returns how long that took since the signal.
    ///
    /// # Errors
    /// The process was not signalled, or still runs after `patience`.
    pub async fn exited(&mut self, patience: Duration) -> Result<Duration> {
        let (_, exited) = self.process.wait(patience).await?;
        let record = self
            .records
            .last_mut()
            .context("an instance has a process")?;
        record.exited = Some(exited);
        let signalled = record
            .signalled
            .with_context(|| format!("{} exited without a signal", self.name))?;
        Ok(Duration::from_nanos(exited.saturating_sub(signalled)))
    }

    /// Starts the next process on the same port; the previous one must have exited.
    ///
    /// # Errors
    /// The process doesn't start, or listens elsewhere.
    pub async fn start_again(&mut self) -> Result<()> {
        let generation = self.records.len() + 1;
        let (process, address, record) = begin(
            &self.name,
            &self.program,
            &self.dir,
            self.address.port(),
            generation,
        )
        .await?;
        ensure!(
            address == self.address,
            "{} listens on {address}, not on {}",
            self.name,
            self.address
        );
        self.process = process;
        self.records.push(record);
        Ok(())
    }

    /// Starts the next process while the previous one still has the port, and then stops that one. With a program that
    /// waits for its port, as the built-in one does, there is almost no time between the two. Returns how long the old
    /// process took to stop.
    ///
    /// # Errors
    /// The old process doesn't stop, or the new one doesn't listen.
    pub async fn replace(&mut self, patience: Duration) -> Result<Duration> {
        let generation = self.records.len() + 1;
        let port = self.address.port();
        let (mut next, record) = spawn(&self.name, &self.program, &self.dir, port, generation)?;
        // It must have started to wait for the port; nothing reports when.
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.terminate()?;
        let took = self.exited(patience).await?;
        next.address().await?;
        self.process = next;
        self.records.push(record);
        Ok(took)
    }

    /// Data for the oracle: each process with its requests.
    ///
    /// # Errors
    /// A journal can't be read.
    pub fn lives(&self) -> Result<Vec<Life>> {
        self.records
            .iter()
            .map(|record| self.life(record))
            .collect()
    }

    fn life(&self, record: &InstanceRecord) -> Result<Life> {
        let lines = journal::read(&record.journal)?;
        let arrival = |line: &journal::JournalLine| {
            let id = line
                .id
                .as_ref()
                .filter(|_| line.event == "arrival")?
                .parse()
                .ok()?;
            Some((id, line.t))
        };
        let arrivals = lines.iter().filter_map(arrival).collect();
        Ok(Life {
            name: self.name.clone(),
            signalled: record.signalled,
            exited: record.exited,
            arrivals,
        })
    }
}

async fn begin(
    name: &str,
    program: &Program,
    dir: &Path,
    port: u16,
    generation: usize,
) -> Result<(ChildProcess, SocketAddr, InstanceRecord)> {
    let (mut process, record) = spawn(name, program, dir, port, generation)?;
    let address = process.address().await?;
    Ok((process, address, record))
}

fn spawn(
    name: &str,
    program: &Program,
    dir: &Path,
    port: u16,
    generation: usize,
) -> Result<(ChildProcess, InstanceRecord)> {
    let journal = dir.join(format!("{name}.{generation}.journal"));
    let (executable, arguments) = program.0.split_first().context("an app needs a command")?;
    let mut command = Command::new(executable);
    command
        .args(arguments)
        .args(["--name", name, "--port", &port.to_string()])
        .arg("--log")
        .arg(&journal);
    let process =
        ChildProcess::start(name, command, &dir.join(format!("{name}.{generation}.err")))?;
    let record = InstanceRecord {
        journal,
        signalled: None,
        exited: None,
    };
    Ok((process, record))
}
