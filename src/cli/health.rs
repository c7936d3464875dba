//! `lameduck health`: a health command for supervisors. A backend that drains in order is healthy, because a restart
//! would cut the requests that it still serves.

use clap::Args;
use clap::builder::FalseyValueParser;
use serde_json::json;

use super::exit::Exit;
use super::fleet::{AbsentProxy, ask_all};
use crate::client::admin_args::AdminArgs;
use crate::client::names::{TargetName, segment};
use crate::registry::view::{BackendView, PoolView};
use crate::rt::output::count;

/// Options of `lameduck health`.
#[derive(Debug, Clone, Args)]
pub struct HealthArgs {
    /// A pool, or one of its backends, for example app/app-1
    #[arg(value_name = "POOL[/NAME]")]
    pub target: TargetName,
    /// Print JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    connect: AdminArgs,
}

/// Runs the command.
///
/// # Errors
/// Exit code 1 if the target is not healthy.
pub async fn run_health(args: HealthArgs) -> Result<(), Exit> {
    let pool = match &args.target {
        TargetName::Pool(pool) => pool,
        TargetName::Backend(backend) => &backend.pool,
    };
    // An unreachable proxy is not a failure of the app: a restart by the supervisor would only do harm.
    ask_all(
        &args.connect,
        AbsentProxy::Warned,
        args.json,
        async |client, voice| {
            let view: PoolView = client.get(&format!("/v1/pools/{}", segment(pool))).await?;
            let (healthy, line) = judge(&args.target, &view);
            if args.json {
                voice.print_json(&json!({
                    "target": args.target.to_string(),
                    "healthy": healthy,
                    "reason": line,
                }));
            } else {
                voice.print(&format!("{}: {line}", args.target));
            }
            if healthy {
                Ok(())
            } else {
                Err(Exit::failed(""))
            }
        },
    )
    .await
}

/// Whether the backend is ready or drains in order: its process runs and has passed its checks.
fn in_order(backend: &BackendView) -> bool {
    match backend.state.as_str() {
        "ready" => true,
        "draining" | "drained" => backend.health == "up",
        _ => false,
    }
}

fn judge(target: &TargetName, pool: &PoolView) -> (bool, String) {
    let good = pool.backends.iter().filter(|one| in_order(one)).count();
    let TargetName::Backend(wanted) = target else {
        let all = count(pool.backends.len() as u64, "backend");
        // One backend is enough: a pool that loses an instance still serves.
        return (good > 0, format!("{good} of {all} in order"));
    };
    let meant: Vec<&BackendView> = pool
        .backends
        .iter()
        .filter(|shown| wanted.matches_name(&shown.name))
        .collect();
    match meant.iter().find(|one| !in_order(one)) {
        Some(bad) => (false, describe(bad)),
        None => match meant.last() {
            Some(newest) => (true, describe(newest)),
            None => (
                false,
                "no such backend; `lameduck status` lists them".to_owned(),
            ),
        },
    }
}

fn describe(backend: &BackendView) -> String {
    let probe = backend
        .last_probe
        .as_deref()
        .map(crate::rt::output::printable);
    match (backend.state.as_str(), probe) {
        ("starting" | "down", Some(probe)) => format!("{}, last probe: {probe}", backend.state),
        ("draining" | "drained", _) => format!(
            "{} (health {}, {} in flight)",
            backend.state,
            backend.health,
            count(backend.in_flight.into(), "request")
        ),
        _ => backend.state.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(backends: &[(&str, &str, &str)]) -> PoolView {
        let backends: Vec<_> = backends
            .iter()
            .map(|(name, state, health)| {
                json!({
                    "name": name, "address": "127.0.0.1:1", "weight": 1, "incarnation": 1,
                    "state": state, "health": health, "source": "config",
                    "last_probe": "connection refused", "drains": [], "in_flight": 2,
                    "connections": 0, "requests": 0,
                })
            })
            .collect();
        serde_json::from_value(json!({
            "name": "app", "balance": "random", "eligible": 0, "held": 0, "backends": backends,
        }))
        .unwrap()
    }

    #[test]
    fn draining_in_good_order_is_healthy() {
        for (state, health, healthy) in [
            ("ready", "up", true),
            ("draining", "up", true),
            ("drained", "up", true),
            ("draining", "down", false),
            ("drained", "starting", false),
            ("starting", "starting", false),
            ("down", "down", false),
        ] {
            let pool = pool(&[("app-1", state, health)]);
            let (judged, line) = judge(&"app/app-1".parse().unwrap(), &pool);
            assert_eq!(judged, healthy, "{state} {health}: {line}");
            assert_eq!(judge(&"app".parse().unwrap(), &pool).0, healthy);
        }
    }

    #[test]
    fn all_of_a_name_count_and_one_of_a_pool_is_enough() {
        let pool = pool(&[
            ("a", "ready", "up"),
            ("b", "draining", "up"),
            ("b~2", "starting", "starting"),
        ]);
        assert!(judge(&"app".parse().unwrap(), &pool).0);
        let (healthy, line) = judge(&"app/b".parse().unwrap(), &pool);
        assert!(
            !healthy && line == "starting, last probe: connection refused",
            "{line}"
        );
        assert!(!judge(&"app/b~2".parse().unwrap(), &pool).0);
        assert!(!judge(&"app/c".parse().unwrap(), &pool).0);
        assert!(!judge(&"app".parse().unwrap(), &super::tests::pool(&[])).0);
    }
}
