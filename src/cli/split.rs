//! `lameduck split`: changes the weights of a route with several pools, at once or by a plan.

mod follow;
mod report;

use std::collections::BTreeMap;

use clap::Args;
use clap::builder::FalseyValueParser;
use hyper::Method;
use serde_json::Value;

use super::drain::print_warning;
use super::exit::Exit;
use super::fleet::{AbsentProxy, ProxyVoice, ask_all};
use crate::client::admin_args::AdminArgs;
use crate::client::http::{AdminClient, AnswerWait};
use crate::client::names::{duration, segment};
use crate::config::MOST_WEIGHT;
use crate::core::split_plan::condition::AbortCondition;
use crate::registry::plan_view::{PlanRequest, PlanState, PlanView};
use crate::registry::view::{SplitRequest, SplitView};
use crate::rt::output::printable;

/// Options of `lameduck split`.
#[derive(Debug, Clone, Args)]
pub struct SplitArgs {
    /// The route's name; none: list all splits and their plans
    #[arg(value_name = "ROUTE")]
    pub route: Option<String>,
    /// The new weight of each of its pools, 0 to 1,000,000, for example api=50 api-next=50; none: show those in force.
    /// With --to: the pool whose share is moved in steps, for example api-next
    #[arg(value_name = "POOL[=WEIGHT]", value_parser = split_word)]
    pub weights: Vec<SplitWord>,
    /// Put the configuration's weights in force again
    #[arg(long, env = "LAMEDUCK_RESET", value_parser = FalseyValueParser::new(), conflicts_with_all = ["weights", "to"])]
    pub reset: bool,
    /// Move the pool's share to this percentage in steps, and go back by itself if something is wrong
    #[arg(long, value_name = "PERCENT", env = "LAMEDUCK_TO", requires_all = ["length", "route"], value_parser = share_percent, help_heading = "Plan")]
    pub to: Option<f64>,
    /// The time for all steps, for example 10m
    #[arg(long = "in", value_name = "DURATION", env = "LAMEDUCK_IN", requires = "to", value_parser = duration, help_heading = "Plan")]
    pub length: Option<String>,
    /// How many steps of equal length [default: 10]
    #[arg(long, value_name = "N", env = "LAMEDUCK_STEPS", requires = "to", conflicts_with = "every", value_parser = clap::value_parser!(u32).range(1..=100), help_heading = "Plan")]
    pub steps: Option<u32>,
    /// Instead of --steps: about how long each step is
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_EVERY", requires = "to", value_parser = duration, help_heading = "Plan")]
    pub every: Option<String>,
    /// Go back when this holds: 5xx, 4xx or failed (attempts), p50, p90, p95 or p99, then > and a limit (1%, 500ms) or a
    /// comparison with the other pools (2x), for example '5xx>1%' or 'p99>2x'; may be given several times
    #[arg(long, value_name = "CONDITION", env = "LAMEDUCK_ABORT_ON", requires = "to", value_delimiter = ',', value_parser = condition, help_heading = "Plan")]
    pub abort_on: Vec<String>,
    /// Judge no fewer requests than this [default: 20]
    #[arg(long, value_name = "N", env = "LAMEDUCK_MIN_REQUESTS", requires = "to", value_parser = clap::value_parser!(u64).range(1..=1_000_000), help_heading = "Plan")]
    pub min_requests: Option<u64>,
    /// Follow the plan until its end (the default where it begins)
    // `resume --wait` has the same variable, with a time as its value: so any value is accepted here, and the option
    // conflicts with no other.
    #[arg(long, env = "LAMEDUCK_WAIT", value_parser = FalseyValueParser::new(), help_heading = "Plan")]
    pub wait: bool,
    /// Return when the plan has begun; it runs in the proxy
    #[arg(long, env = "LAMEDUCK_DETACH", value_parser = FalseyValueParser::new(), requires = "to", help_heading = "Plan")]
    pub detach: bool,
    /// End the plan; the weights stay as they are
    #[arg(long, env = "LAMEDUCK_STOP", value_parser = FalseyValueParser::new(), requires = "route", conflicts_with_all = ["weights", "to", "reset", "back"], help_heading = "Plan")]
    pub stop: bool,
    /// End the plan, and put the weights from before it in force again
    #[arg(long, env = "LAMEDUCK_BACK", value_parser = FalseyValueParser::new(), requires = "route", conflicts_with_all = ["weights", "to", "reset"], help_heading = "Plan")]
    pub back: bool,
    /// Print the split, or the plan's report, as JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    connect: AdminArgs,
}

/// Argument `POOL=WEIGHT` or `POOL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitWord {
    /// New weight of a pool.
    Weight(String, u32),
    /// Pool that a plan is for.
    Pool(String),
}

/// Hint how to write a weight.
const EXAMPLE: &str = "write POOL=WEIGHT, for example api-next=5";

fn split_word(text: &str) -> Result<SplitWord, String> {
    let Some((pool, weight)) = text.split_once('=') else {
        return Ok(SplitWord::Pool(text.to_owned()));
    };
    let weight = weight.parse().ok().filter(|weight| *weight <= MOST_WEIGHT);
    match (pool.is_empty(), weight) {
        (false, Some(weight)) => Ok(SplitWord::Weight(pool.to_owned(), weight)),
        (true, _) => Err(EXAMPLE.to_owned()),
        (false, None) => Err(format!("the weight is a number from 0 to {}", MOST_WEIGHT)),
    }
}

/// Parses `12.5` or `12.5%`.
fn share_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let percent: Option<f64> = number.parse().ok();
    percent
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| {
            "the share is a percentage from 0 to 100, for example 100 or 12.5".to_owned()
        })
}

fn condition(text: &str) -> Result<String, String> {
    let read = AbortCondition::parse(text).map_err(|error| error.to_string())?;
    Ok(read.to_string())
}

/// Runs the command.
///
/// # Errors
/// The command failed: its exit code and message.
pub async fn run_split(args: SplitArgs) -> Result<(), Exit> {
    ask_all(
        &args.connect,
        AbsentProxy::Failed,
        args.json,
        async |client, voice| split(client, voice, args.clone()).await,
    )
    .await
}

async fn split(client: &AdminClient, voice: &ProxyVoice, args: SplitArgs) -> Result<(), Exit> {
    let Some(route) = args.route.clone() else {
        return print_splits(client, voice, args.json).await;
    };
    let path = format!("/v1/routes/{}/split", segment(&route));
    let plan_path = format!("{path}/plan");
    if let (Some(to), Some(length)) = (args.to, args.length.clone()) {
        let request = plan_request(&args, to, length)?;
        let view: PlanView = client
            .call(Method::POST, &plan_path, Some(&request), AnswerWait::Short)
            .await?;
        print_warning(voice, view.warning.as_deref());
        if args.detach {
            return print_plan(voice, &view, args.json);
        }
        return follow::follow_plan(client, voice, &plan_path, Some(view), args.json).await;
    }
    if args.stop || args.back {
        let query = if args.back { "?back=true" } else { "" };
        let path = format!("{plan_path}{query}");
        let view: PlanView = client
            .call(Method::DELETE, &path, None::<&Value>, AnswerWait::Short)
            .await?;
        print_warning(voice, view.warning.as_deref());
        return print_plan(voice, &view, args.json);
    }
    if args.wait && args.weights.is_empty() && !args.reset {
        return follow::follow_plan(client, voice, &plan_path, None, args.json).await;
    }
    let weights = weights(args.weights)?;
    let view: SplitView = if args.reset {
        client
            .call(Method::DELETE, &path, None::<&Value>, AnswerWait::Short)
            .await?
    } else if weights.is_empty() {
        client.get(&path).await?
    } else {
        let request = SplitRequest { weights };
        client
            .call(Method::PUT, &path, Some(&request), AnswerWait::Short)
            .await?
    };
    if args.json {
        voice.print_json(&view);
    } else {
        voice.print(&describe(&view));
    }
    print_warning(voice, view.warning.as_deref());
    Ok(())
}

/// Weights from the command line.
fn weights(words: Vec<SplitWord>) -> Result<BTreeMap<String, u32>, Exit> {
    let mut weights = BTreeMap::new();
    for word in words {
        let (pool, weight) = match word {
            SplitWord::Weight(pool, weight) => (pool, weight),
            SplitWord::Pool(pool) => {
                return Err(Exit::usage(format!(
                    "{} has no weight: {EXAMPLE}, or move its share by a plan: --to 100 --in 10m",
                    printable(&pool)
                )));
            }
        };
        if weights.insert(pool.clone(), weight).is_some() {
            return Err(Exit::usage(format!(
                "{} has two weights: write each pool once",
                printable(&pool)
            )));
        }
    }
    Ok(weights)
}

fn plan_request(args: &SplitArgs, to: f64, length: String) -> Result<PlanRequest, Exit> {
    let [SplitWord::Pool(pool)] = args.weights.as_slice() else {
        return Err(Exit::usage(
            "--to is for one pool: write it behind the route, for example `lameduck split shop-api api-next --to 100 --in 10m`",
        ));
    };
    Ok(PlanRequest {
        pool: pool.clone(),
        to,
        length,
        steps: args.steps,
        every: args.every.clone(),
        abort_on: args.abort_on.clone(),
        min_requests: args.min_requests,
    })
}

/// Prints the state of a plan.
fn print_plan(voice: &ProxyVoice, view: &PlanView, json: bool) -> Result<(), Exit> {
    match json {
        true => voice.print_json(view),
        false => voice.print(&report::describe_plan(view)),
    }
    Ok(())
}

async fn print_splits(client: &AdminClient, voice: &ProxyVoice, json: bool) -> Result<(), Exit> {
    let splits: Vec<SplitView> = client.get("/v1/splits").await?;
    if json {
        return Exit::answered(voice.answer_json(&splits));
    }
    let lines: Vec<String> = splits.iter().map(describe).collect();
    Exit::answered(match lines.is_empty() {
        true => voice.answer("no route that has a name is split"),
        false => voice.answer(&lines.join("\n")),
    })
}

/// Formats weights with their percentages.
fn shares(weights: &BTreeMap<String, u32>) -> String {
    let all: u64 = weights.values().map(|weight| u64::from(*weight)).sum();
    let shares = weights.iter().map(|(pool, weight)| {
        let percent = f64::from(*weight) * 100.0 / all.max(1) as f64;
        format!("{}={weight} ({percent:.4}", printable(pool))
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
            + " %)"
    });
    let shares: Vec<_> = shares.collect();
    shares.join(" ")
}

fn describe(view: &SplitView) -> String {
    let mut text = format!("{}: {}", printable(&view.route), shares(&view.weights));
    if view.weights != view.configured {
        let configured = view.configured.iter();
        let configured: Vec<_> = configured
            .map(|(pool, weight)| format!("{}={weight}", printable(pool)))
            .collect();
        text.push_str(&format!(
            "; moved (the configuration has {})",
            configured.join(" ")
        ));
    }
    if let Some(plan) = &view.plan {
        let what = match plan.state {
            PlanState::Running => "plan",
            _ => "last plan",
        };
        text.push_str(&format!("\n  {what}: {}", report::describe_plan(plan)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_shown_with_their_percentage_and_what_the_file_says() {
        let weights = |list: &[(&str, u32)]| {
            let list = list.iter();
            list.map(|(pool, weight)| ((*pool).to_owned(), *weight))
                .collect::<BTreeMap<_, _>>()
        };
        let mut view = SplitView {
            route: "shop".into(),
            weights: weights(&[("api", 95), ("api-next", 5)]),
            configured: weights(&[("api", 95), ("api-next", 5)]),
            moved: None,
            plan: None,
            warning: None,
        };
        assert_eq!(describe(&view), "shop: api=95 (95 %) api-next=5 (5 %)");
        view.weights = weights(&[("api", 2), ("api-next", 1)]);
        assert_eq!(
            describe(&view),
            "shop: api=2 (66.6667 %) api-next=1 (33.3333 %); moved (the configuration has api=95 api-next=5)"
        );
    }

    #[test]
    fn word_is_a_pool_and_a_weight_or_a_pool() {
        let weight = SplitWord::Weight("api".to_owned(), 5);
        assert_eq!(split_word("api=5"), Ok(weight));
        assert_eq!(split_word("api"), Ok(SplitWord::Pool("api".to_owned())));
        for wrong in ["=5", "api=", "api=-1", "api=1000001", "api=5%"] {
            assert!(split_word(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn share_is_a_percentage() {
        assert_eq!(share_percent("12.5"), Ok(12.5));
        assert_eq!(share_percent("100%"), Ok(100.0));
        for wrong in ["", "-1", "100.1", "NaN", "inf", "half"] {
            assert!(share_percent(wrong).is_err(), "{wrong}");
        }
    }
}
