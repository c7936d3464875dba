//! `lameduck drain`: takes a backend out, and waits until nothing is in flight on it.

use std::time::{Duration, Instant};

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use hyper::Method;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::Exit;
use super::fleet::{AbsentProxy, ProxyVoice, ask_all, check_alive, stops_answering};
use crate::client::admin_args::AdminArgs;
use crate::client::http::{AdminClient, AdminRequest, AnswerWait};
use crate::client::names::{
    ActorArg, BackendName, LameDuckArg, RestartedWhen, TargetName, backend_or_pool, duration,
    longest_day, segment,
};
use crate::core::drain::{DrainOutcome, RestartSign};
use crate::core::launch::LONGEST_LAME_DUCK;
use crate::registry::view::{DrainRequest, DrainResponse, PoolView};
use crate::rt::output::{ProgressLine, count, printable};

/// Time between two checks whether new requests still arrive.
const QUIET_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// A request that is made sooner than this after the command's start is the first one.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_millis(100);
/// Time between two checks of what is in flight.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Options of `lameduck drain`.
#[derive(Debug, Clone, Args)]
pub struct DrainArgs {
    /// The backend, for example app/app-1, or a pool, for all of its backends
    #[arg(value_name = "POOL[/NAME]", value_parser = backend_or_pool)]
    pub target: TargetName,
    /// Cut what is still in flight after this long [default: the pool's drain.deadline]
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_TIMEOUT", value_parser = duration)]
    pub timeout: Option<String>,
    /// What ends the drain by itself
    #[arg(long, value_enum, env = "LAMEDUCK_UNTIL", default_value = "resumed")]
    pub until: UntilArg,
    /// With `--until restarted`: what shows the restart [default: new-process]. The other two are for restarts that keep
    /// the listening socket (gunicorn's HUP, socket activation)
    #[arg(long, value_name = "WHEN", env = "LAMEDUCK_RESTARTED_WHEN", value_enum)]
    pub restarted_when: Option<RestartedWhen>,
    /// In whose name: a supervisor's drain is lifted neither by people's `resume` nor lifts theirs
    #[arg(long, value_enum, env = "LAMEDUCK_ACTOR", default_value = "operator")]
    pub actor: ActorArg,
    /// End the drain after this long even if nobody resumes [default: never; for supervisors, deadline + 60s]
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_EXPIRES", value_parser = duration)]
    pub expires: Option<String>,
    /// Return at once instead of waiting for the end
    #[arg(long, env = "LAMEDUCK_NO_WAIT", value_parser = FalseyValueParser::new())]
    pub no_wait: bool,
    /// Before that, tell clients for so long, or until nothing new comes, that this proxy goes (a pod's only backend):
    /// not ready, `Connection: close`
    #[arg(long, value_name = "DURATION|auto", env = "LAMEDUCK_LAME_DUCK")]
    pub lame_duck: Option<LameDuckArg>,
    /// The longest `--lame-duck auto`
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_LAME_DUCK_MAX", default_value = LONGEST_LAME_DUCK, value_parser = longest_day)]
    pub lame_duck_max: Duration,
    /// Why, shown by status and logs
    #[arg(long, value_name = "TEXT", env = "LAMEDUCK_REASON")]
    pub reason: Option<String>,
    /// Print the answer as JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    connect: AdminArgs,
}

/// What ends a drain by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UntilArg {
    /// Nothing: only `lameduck resume`
    Resumed,
    /// A new process behind the backend that passes its health checks
    Restarted,
}

/// Runs the command.
///
/// # Errors
/// The command failed: its exit code and message.
pub async fn run_drain(args: DrainArgs) -> Result<(), Exit> {
    if args.restarted_when.is_some() && args.until != UntilArg::Restarted {
        return Err(Exit::usage(
            "--restarted-when (or LAMEDUCK_RESTARTED_WHEN) says what ends a drain that ends with a restart: add --until \
             restarted, or leave it out",
        ));
    }
    ask_all(
        &args.connect,
        AbsentProxy::Warned,
        args.json,
        async |client, voice| drain(client, voice, args.clone()).await,
    )
    .await
}

async fn drain(client: &AdminClient, voice: &ProxyVoice, args: DrainArgs) -> Result<(), Exit> {
    check_alive(client).await?;
    let until = match args.until {
        UntilArg::Resumed => "resumed",
        UntilArg::Restarted => "restarted",
    };
    // A drain until the next restart must not replace an operator's drain that has no end.
    let once = args.actor == ActorArg::Operator && args.until == UntilArg::Restarted;
    let request = DrainRequest {
        actor: Some(args.actor.as_str().to_owned()),
        id: once.then(|| "restart".to_owned()),
        timeout: args.timeout.clone(),
        until: Some(until.to_owned()),
        restarted_when: args
            .restarted_when
            .map(|when| RestartSign::from(when).as_str().to_owned()),
        expires: args.expires,
        reason: args.reason.or_else(reason_by_default),
        wait: Some(!args.no_wait),
    };
    if let Some(lame_duck) = args.lame_duck {
        let reason = request.reason.as_deref();
        be_lame(client, lame_duck, args.lame_duck_max, reason).await?;
    }
    let backends = match args.target {
        TargetName::Backend(backend) => vec![backend],
        TargetName::Pool(pool) => backends_of(client, &pool).await?,
    };
    warn_if_last(client, voice, &backends).await;
    let drains = backends.iter().map(async |backend| {
        let call = DrainCall {
            client,
            voice,
            backend,
            verb: "drain",
            json: args.json,
        };
        let asked = |after| {
            let timeout = time_left(args.timeout.as_deref(), after);
            let wait = drain_answer_wait(timeout.as_deref());
            let request = DrainRequest {
                timeout,
                ..request.clone()
            };
            let path = format!("{}/drain", backend.path());
            AdminRequest::with_body(Method::POST, path, &request, wait)
        };
        let answer = call.wait(asked).await?;
        call.conclude(&answer)
    });
    // All drains run at once, and each is reported when it ends. If several fail, the first in the list decides the
    // exit code.
    let mut first = Ok(());
    for ended in futures_util::future::join_all(drains).await {
        match (ended, &first) {
            (Err(exit), Ok(())) => first = Err(exit),
            (Err(exit), Err(_)) => voice.complain(&exit.message),
            (Ok(()), _) => {}
        }
    }
    first
}

/// Makes the proxy lame duck first. If it is interrupted here, nothing is drained, and the proxy stays lame duck,
/// because the caller is stopping it.
async fn be_lame(
    client: &AdminClient,
    lame_duck: LameDuckArg,
    longest: Duration,
    reason: Option<&str>,
) -> Result<(), Exit> {
    if lame_duck == LameDuckArg::For(Duration::ZERO) {
        return Ok(());
    }
    let body = serde_json::json!({ "reason": reason });
    let path = "/v1/lame-duck";
    let asked = client.call(Method::POST, path, Some(&body), AnswerWait::Short);
    let _: Value = asked.await?;
    let quiet = async {
        loop {
            tokio::time::sleep(QUIET_CHECK_INTERVAL).await;
            // If the proxy stops meanwhile, it sends nothing more; the drain itself will report that.
            match client.get::<Value>(path).await {
                Ok(state) if state["quiet"] != true => {}
                Ok(_) | Err(_) => return,
            }
        }
    };
    match lame_duck {
        LameDuckArg::For(time) => tokio::time::sleep(time).await,
        LameDuckArg::Auto => drop(tokio::time::timeout(longest, quiet).await),
    }
    Ok(())
}

/// Names of all backends that are in the pool now.
///
/// # Errors
/// The proxy can't be reached, knows no such pool, or the pool has no backends.
pub(super) async fn backends_of(
    client: &AdminClient,
    pool: &str,
) -> Result<Vec<BackendName>, Exit> {
    let view: PoolView = client.get(&format!("/v1/pools/{}", segment(pool))).await?;
    let backends: Vec<_> = view
        .backends
        .into_iter()
        .map(|backend| BackendName {
            pool: pool.to_owned(),
            name: backend.name,
        })
        .collect();
    if backends.is_empty() {
        return Err(Exit::failed(format!(
            "pool {pool} has no backends; `lameduck status` lists them"
        )));
    }
    Ok(backends)
}

/// Warns, before anything is drained, that no ready backend will be left.
async fn warn_if_last(client: &AdminClient, voice: &ProxyVoice, drained: &[BackendName]) {
    let Some(pool) = drained.first().map(|backend| &backend.pool) else {
        return;
    };
    let path = format!("/v1/pools/{}", segment(pool));
    // If the proxy doesn't answer, the drain itself reports that.
    let Ok(view) = client.get::<PoolView>(&path).await else {
        return;
    };
    let ready = view.backends.iter().filter(|shown| shown.state == "ready");
    let (taken, left): (Vec<_>, Vec<_>) = ready.partition(|shown| {
        drained
            .iter()
            .any(|backend| backend.matches_name(&shown.name))
    });
    if !taken.is_empty() && left.is_empty() {
        voice.complain(&format!(
            "warning: no other backend of {pool} is ready: until one is, requests wait or are refused ([pool.hold])"
        ));
    }
}

/// Default reason: the user's name.
pub(super) fn reason_by_default() -> Option<String> {
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty())?;
    Some(format!("asked for by {user}"))
}

/// Prints the proxy's warning that a change may not last.
pub(super) fn print_warning(voice: &ProxyVoice, warning: Option<&str>) {
    if let Some(warning) = warning {
        voice.complain(&format!("warning: {}", printable(warning)));
    }
}

/// Returns what is left of a given duration after some time has passed.
pub(super) fn time_left(given: Option<&str>, after: Duration) -> Option<String> {
    let given = given?;
    match crate::config::duration::parse(given) {
        // The first request has the duration as it was written.
        Ok(whole) if after >= FIRST_REQUEST_WITHIN => {
            Some(format!("{}ms", whole.saturating_sub(after).as_millis()))
        }
        _ => Some(given.to_owned()),
    }
}

/// Longest wait for the answer to a drain; without a time-out, the pool's own deadline applies.
pub(super) fn drain_answer_wait(timeout: Option<&str>) -> AnswerWait {
    let time = timeout.and_then(|timeout| crate::config::duration::parse(timeout).ok());
    time.map_or(AnswerWait::Ever, AnswerWait::For)
}

/// What a drain still waits for, such as `2 requests in flight, 14 sessions`.
fn left_there(in_flight: u64, sessions: Option<u32>) -> String {
    let requests = format!("{} in flight", count(in_flight, "request"));
    match sessions {
        None => requests,
        Some(sessions) => format!("{requests}, {}", count(sessions.into(), "session")),
    }
}

/// A drain for the command `drain` or `deregister`.
pub(super) struct DrainCall<'a> {
    pub(super) client: &'a AdminClient,
    pub(super) voice: &'a ProxyVoice,
    pub(super) backend: &'a BackendName,
    /// Name of the command: `drain` or `deregister`.
    pub(super) verb: &'static str,
    pub(super) json: bool,
}

impl DrainCall<'_> {
    /// Requests the drain, shows its progress, and waits for its end.
    pub(super) async fn wait(
        &self,
        request: impl Fn(Duration) -> AdminRequest,
    ) -> Result<DrainResponse, Exit> {
        let cannot = |error: std::io::Error| Exit::failed(format!("can't catch signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        // The progress of several drains would overwrite each other.
        let progress = ProgressLine::new(!self.json && !self.voice.is_one_of_several());
        let began = Instant::now();
        tokio::select! {
            answer = self.client.call_across_upgrades(request) => Ok(DrainResponse {
                // The proxy only knows the last of several requests.
                waited_ms: began.elapsed().as_millis() as u64,
                ..answer?
            }),
            () = self.wait_until_unreachable() => Err(Exit::unreachable(
                "it was asked, and has stopped answering since; whether it still sends requests can't be told.",
            )),
            () = self.show(progress) => Err(Exit::failed("the progress display ended")),
            _ = interrupt.recv() => Err(self.interrupted()),
            _ = terminate.recv() => Err(self.interrupted()),
        }
    }

    fn interrupted(&self) -> Exit {
        let backend = self.backend;
        Exit::interrupted(match self.verb {
            "deregister" => format!(
                "interrupted; {backend} goes on draining and is then removed. `lameduck resume {backend}` keeps it."
            ),
            _ => format!(
                "interrupted; the drain of {backend} stays asked for. `lameduck resume {backend}` lifts it."
            ),
        })
    }

    /// Ends when one of several proxies has stopped answering, so that the command doesn't wait for it.
    async fn wait_until_unreachable(&self) {
        if !self.voice.is_one_of_several() {
            std::future::pending::<()>().await;
        }
        stops_answering(self.client).await;
    }

    /// Redraws the progress until this future is dropped.
    async fn show(&self, mut progress: ProgressLine) {
        if !progress.is_visible() {
            std::future::pending::<()>().await;
        }
        let began = Instant::now();
        let path = format!("/v1/pools/{}", segment(&self.backend.pool));
        loop {
            // The first check comes late, so that a drain which ends at once shows no progress.
            tokio::time::sleep(PROGRESS_INTERVAL).await;
            if let Ok(pool) = self.client.get::<PoolView>(&path).await {
                let meant = pool.backends.iter();
                let meant = meant.filter(|shown| self.backend.matches_name(&shown.name));
                let (mut in_flight, mut sessions) = (0, None);
                for shown in meant {
                    in_flight += u64::from(shown.in_flight);
                    sessions = shown
                        .sessions
                        .map(|more| sessions.unwrap_or(0) + more)
                        .or(sessions);
                }
                progress.show(&format!(
                    "draining {}: {}, {} s",
                    self.backend,
                    left_there(in_flight, sessions),
                    began.elapsed().as_secs()
                ));
            }
        }
    }

    /// Prints the answer; the exit code tells how the drain ended.
    pub(super) fn conclude(&self, answer: &DrainResponse) -> Result<(), Exit> {
        if self.json {
            self.voice.print_json(answer);
        }
        print_warning(self.voice, answer.warning.as_deref());
        let backend = self.backend;
        let done = match self.verb {
            "deregister" => "drained and removed",
            _ => "drained",
        };
        let text = match answer.ending() {
            Some(DrainOutcome::Drained) => {
                let moved = match answer.sessions.unwrap_or(0) {
                    0 => String::new(),
                    left => format!(
                        "; {} left for other backends",
                        count(left.into(), "session")
                    ),
                };
                format!("{backend}: {done} in {} ms{moved}", answer.waited_ms)
            }
            None if answer.is_asked_for() => format!(
                "{backend}: {} asked for, {}",
                self.verb,
                left_there(answer.in_flight.into(), answer.sessions)
            ),
            Some(DrainOutcome::TimedOut { cut }) => {
                return Err(Exit::late(format!(
                    "{backend}: the deadline passed, {} cut; a longer --timeout lets more of them finish",
                    count(cut.into(), "request")
                )));
            }
            Some(DrainOutcome::Died { lost }) => {
                return Err(Exit::died(format!(
                    "{backend}: its process died while draining, with {} in flight (what could safely be sent \
                     again was); its own logs say why",
                    count(lost.into(), "request")
                )));
            }
            Some(DrainOutcome::Resumed) => {
                return Err(Exit::failed(format!(
                    "{backend}: somebody lifted the drain before it was complete; it takes requests again"
                )));
            }
            None => {
                return Err(Exit::failed(format!(
                    "{backend}: unknown outcome `{}`; proxy and command may differ in version \
                     (`lameduck --version`)",
                    answer.outcome
                )));
            }
        };
        if !self.json {
            self.voice.print(&text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::view::InFlight;

    #[test]
    fn each_outcome_has_its_exit_code() {
        let client = AdminClient::at_socket("/x".as_ref());
        let backend = "app/app-1".parse().unwrap();
        let call = DrainCall {
            client: &client,
            voice: &ProxyVoice::alone(),
            backend: &backend,
            verb: "drain",
            json: false,
        };
        for (outcome, code, says) in [
            ("timed_out", 3, "2 requests cut"),
            ("died", 4, "with 1 request in flight"),
            ("resumed", 1, "lifted the drain"),
            ("exploded", 1, "unknown outcome `exploded`"),
        ] {
            let answer = DrainResponse {
                outcome: outcome.into(),
                in_flight: 0,
                cut: 2,
                cut_by_kind: InFlight::default(),
                lost: 1,
                sessions: None,
                waited_ms: 5,
                warning: None,
            };
            let exit = call.conclude(&answer).unwrap_err();
            assert_eq!(exit.code, code, "{outcome}");
            assert!(exit.message.contains(says), "{}", exit.message);
        }
    }

    #[test]
    fn sessions_are_told_beside_requests_where_the_pool_is_sticky() {
        assert_eq!(left_there(2, Some(14)), "2 requests in flight, 14 sessions");
        assert_eq!(left_there(1, Some(1)), "1 request in flight, 1 session");
        assert_eq!(left_there(0, None), "0 requests in flight");
    }

    #[test]
    fn interrupt_reports_the_remaining_drain_and_how_to_lift_it() {
        let client = AdminClient::at_socket("/x".as_ref());
        let backend = "app/app-1".parse().unwrap();
        let mut call = DrainCall {
            client: &client,
            voice: &ProxyVoice::alone(),
            backend: &backend,
            verb: "drain",
            json: false,
        };
        let exit = call.interrupted();
        assert_eq!(exit.code, 130);
        assert!(exit.message.contains("stays asked for"));
        assert!(
            exit.message
                .contains("`lameduck resume app/app-1` lifts it")
        );
        call.verb = "deregister";
        assert!(call.interrupted().message.contains("then removed"));
    }
}
