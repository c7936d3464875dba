//! Runs one command at several proxies: all are asked at once, each line of output has its proxy's name, and proxies
//! that can't be reached are named.
//!
//! With one proxy the output and the exit code are those of the command alone.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use hyper::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::exit::Exit;
use crate::client::admin_args::AdminArgs;
use crate::client::http::{AdminClient, AnswerWait};
use crate::rt::output;

/// Longest wait for a proxy's sign of life.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Time between two checks whether it is still alive.
const ALIVE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Effect on the exit code if a proxy can't be reached while others can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbsentProxy {
    /// Only a warning, for commands that run when an app is stopped, and must not delay that.
    Warned,
    /// Exit code 5, after everything was done at the others: the change was meant for all proxies.
    Failed,
}

/// Output for one of the proxies.
#[derive(Debug)]
pub struct ProxyVoice {
    /// Name of the proxy, if there are several.
    proxy: Option<String>,
    /// JSON values to print together with those of the other proxies.
    answers: Mutex<Vec<Value>>,
}

impl ProxyVoice {
    /// Output for the only proxy.
    pub fn alone() -> Self {
        Self {
            proxy: None,
            answers: Mutex::default(),
        }
    }

    fn of(proxy: String) -> Self {
        Self {
            proxy: Some(proxy),
            ..Self::alone()
        }
    }

    /// Whether there are several proxies.
    pub fn is_one_of_several(&self) -> bool {
        self.proxy.is_some()
    }

    /// Puts the proxy's name before each line, if there are several.
    fn named(&self, text: &str) -> String {
        match &self.proxy {
            None => text.to_owned(),
            Some(proxy) => {
                let lines = text.lines().map(|line| match line {
                    "" => String::new(),
                    line => format!("{proxy}: {line}"),
                });
                lines.collect::<Vec<_>>().join("\n")
            }
        }
    }

    /// Prints one or more lines.
    pub fn print(&self, text: &str) {
        output::print(&self.named(text));
    }

    /// Writes a message to standard error.
    pub fn complain(&self, text: &str) {
        output::complain(&self.named(text));
    }

    /// Prints JSON: at once for a single proxy, or later together with that of the others.
    pub fn print_json(&self, value: &impl Serialize) {
        match self.proxy {
            None => output::print_json(value),
            Some(_) => self.keep(value),
        }
    }

    /// Prints the command's result.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn answer(&self, text: &str) -> std::io::Result<()> {
        output::answer(&self.named(text))
    }

    /// Prints the command's result as JSON: at once for a single proxy, or later together with that of the others.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn answer_json(&self, value: &impl Serialize) -> std::io::Result<()> {
        match self.proxy {
            None => output::answer_json(value),
            Some(_) => {
                self.keep(value);
                Ok(())
            }
        }
    }

    fn keep(&self, value: &impl Serialize) {
        let value = serde_json::to_value(value).unwrap_or_default();
        if let Ok(mut answers) = self.answers.lock() {
            answers.push(value);
        }
    }

    /// JSON object `{"proxy": …, "answer": …}`; with `answers` instead if there is not exactly one, and with `error`
    /// and `exit_code` after a failure.
    fn into_json(self, ended: &Result<(), Exit>) -> Value {
        let mut all = self.answers.into_inner().unwrap_or_default();
        let mut entry = json!({ "proxy": self.proxy });
        match all.len() {
            0 => {}
            1 => entry["answer"] = all.remove(0),
            _ => entry["answers"] = all.into(),
        }
        if let Err(exit) = ended {
            entry["error"] = exit.message.as_str().into();
            entry["exit_code"] = exit.code.into();
        }
        entry
    }
}

/// Runs a command at all proxies that are meant, at once, and waits for all of them. With `json`, their output is
/// joined to a list with an entry for each proxy.
///
/// # Errors
/// The first failure of a proxy that answered; further ones are printed. Exit code 5 if no proxy can be reached, or if
/// one can't and `absent` says that this is a failure.
pub async fn ask_all(
    connect: &AdminArgs,
    absent: AbsentProxy,
    json: bool,
    command: impl AsyncFn(&AdminClient, &ProxyVoice) -> Result<(), Exit>,
) -> Result<(), Exit> {
    let clients = connect.clients()?;
    if let [only] = clients.as_slice() {
        return command(only, &ProxyVoice::alone()).await;
    }
    let names: Vec<_> = clients.iter().map(AdminClient::name).collect();
    let voices: Vec<_> = names.iter().cloned().map(ProxyVoice::of).collect();
    let asked = clients.iter().zip(&voices);
    let ended = join_all(asked.map(|(client, voice)| command(client, voice))).await;
    if json {
        let told = voices.into_iter().zip(&ended);
        let told: Vec<_> = told.map(|(voice, ended)| voice.into_json(ended)).collect();
        Exit::answered(output::answer_json(&told))?;
    }
    conclude(&names, ended, absent)
}

/// Checks whether the proxy answers at all: a proxy that accepts connections and does nothing must not block a hook for
/// as long as a drain may take.
///
/// # Errors
/// The proxy can't be reached, or doesn't answer soon.
pub async fn check_alive(client: &AdminClient) -> Result<(), Exit> {
    let asked = client.raw(Method::GET, "/-/live", None::<&Value>, AnswerWait::Short);
    tokio::time::timeout(ALIVE_TIMEOUT, asked).await.map_err(|_elapsed| {
        Exit::unreachable(format!(
            "the proxy takes connections but does not answer within {}; it may be overloaded or stopped (SIGSTOP)",
            humantime::format_duration(ALIVE_TIMEOUT)
        ))
    })??;
    Ok(())
}

/// Ends when a proxy has stopped answering, so that a command for several proxies doesn't wait for it.
pub async fn stops_answering(client: &AdminClient) {
    let mut silent = 0;
    while silent < 2 {
        tokio::time::sleep(ALIVE_CHECK_INTERVAL).await;
        silent = match check_alive(client).await {
            Ok(()) => 0,
            Err(_) => silent + 1,
        };
    }
}

/// Exit code if a proxy can't be reached.
const UNREACHABLE: u8 = 5;

fn conclude(
    names: &[String],
    ended: Vec<Result<(), Exit>>,
    absent: AbsentProxy,
) -> Result<(), Exit> {
    let is_absent =
        |ended: &Result<(), Exit>| matches!(ended, Err(exit) if exit.code == UNREACHABLE);
    let nobody = ended.iter().all(is_absent);
    let (mut failed, mut away) = (None, None);
    for (name, ended) in names.iter().zip(ended) {
        let is_absent = is_absent(&ended);
        let Err(mut exit) = ended else {
            continue;
        };
        if !exit.message.is_empty() {
            exit.message = format!("{name}: {}", exit.message);
        }
        match (is_absent, absent) {
            (true, AbsentProxy::Warned) if !nobody => {
                let text = format!("warning: {}", exit.message);
                output::complain(&format!("{text} The others were asked."));
            }
            (true, _) => keep_first(&mut away, exit),
            (false, _) => keep_first(&mut failed, exit),
        }
    }
    match (failed, away) {
        (Some(exit), away) => {
            if let Some(away) = away {
                away.report();
            }
            Err(exit)
        }
        (None, Some(exit)) => Err(exit),
        (None, None) => Ok(()),
    }
}

/// Keeps the first failure for the exit code, and prints the others.
fn keep_first(first: &mut Option<Exit>, exit: Exit) {
    match first {
        None => *first = Some(exit),
        Some(_) => drop(exit.report()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(ended: Vec<Result<(), Exit>>, absent: AbsentProxy) -> Result<(), Exit> {
        let names: Vec<_> = (0..ended.len()).map(|n| format!("p{n}")).collect();
        conclude(&names, ended, absent)
    }

    #[test]
    fn absent_proxy_is_a_warning_in_the_way_of_a_stop_and_a_failure_elsewhere() {
        let away = || Err(Exit::unreachable("gone"));
        assert_eq!(end(vec![Ok(()), away()], AbsentProxy::Warned), Ok(()));
        let failed = end(vec![Ok(()), away()], AbsentProxy::Failed).unwrap_err();
        assert_eq!((failed.code, &*failed.message), (5, "p1: gone"));
        for absent in [AbsentProxy::Warned, AbsentProxy::Failed] {
            assert_eq!(end(vec![away(), away()], absent).unwrap_err().code, 5);
        }
    }

    #[test]
    fn failure_of_a_proxy_that_answered_comes_before_one_that_did_not() {
        let ended = vec![
            Err(Exit::unreachable("gone")),
            Err(Exit::late("late")),
            Err(Exit::died("died")),
        ];
        let exit = end(ended, AbsentProxy::Failed).unwrap_err();
        assert_eq!((exit.code, &*exit.message), (3, "p1: late"));
    }

    #[test]
    fn each_line_and_each_entry_names_its_proxy() {
        let voice = ProxyVoice::of("http://a:1".into());
        assert_eq!(voice.named("x\n\n y"), "http://a:1: x\n\nhttp://a:1:  y");
        voice.print_json(&json!({"n": 1}));
        let entry = voice.into_json(&Err(Exit::late("late")));
        let expected =
            json!({"proxy": "http://a:1", "answer": {"n": 1}, "error": "late", "exit_code": 3});
        assert_eq!(entry, expected);
        assert_eq!(ProxyVoice::alone().named("x"), "x");
    }
}
