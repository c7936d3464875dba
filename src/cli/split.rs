//! `lameduck split`: move the weights of a route that several pools answer.

use std::collections::BTreeMap;

use clap::Args;
use clap::builder::FalseyValueParser;
use hyper::Method;
use serde_json::Value;

use super::drain::warn;
use super::exit::Exit;
use crate::client::http::{AdminClient, AnswerWait, Connect};
use crate::client::names::segment;
use crate::config::MOST_WEIGHT;
use crate::registry::view::{SplitRequest, SplitView};
use crate::rt::output::{print, print_json, printable};

/// Options of `lameduck split`.
#[derive(Debug, Clone, Args)]
pub struct SplitArgs {
    /// The route's name
    #[arg(value_name = "ROUTE")]
    pub route: String,
    /// The new weight of each of its pools, 0 to 1,000,000, for example api=50 api-next=50; none: show those in force
    #[arg(value_name = "POOL=WEIGHT", value_parser = share)]
    pub weights: Vec<(String, u32)>,
    /// Put the configuration's weights in force again
    #[arg(long, env = "LAMEDUCK_RESET", value_parser = FalseyValueParser::new(), conflicts_with = "weights")]
    pub reset: bool,
    /// Print the split as JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    connect: Connect,
}

/// `POOL=WEIGHT`.
fn share(text: &str) -> Result<(String, u32), String> {
    let example = "write POOL=WEIGHT, for example api-next=5";
    let (pool, weight) = text.split_once('=').ok_or(example)?;
    let weight = weight.parse().ok().filter(|weight| *weight <= MOST_WEIGHT);
    match (pool.is_empty(), weight) {
        (false, Some(weight)) => Ok((pool.to_owned(), weight)),
        (true, _) => Err(example.to_owned()),
        (false, None) => Err(format!("the weight is a number from 0 to {}", MOST_WEIGHT)),
    }
}

/// Runs it.
///
/// # Errors
/// How it ended, if not well.
pub async fn run_split(args: SplitArgs) -> Result<(), Exit> {
    let mut weights = BTreeMap::new();
    for (pool, weight) in args.weights {
        if weights.insert(pool.clone(), weight).is_some() {
            return Err(Exit::usage(format!(
                "{} has two weights: write each pool once",
                printable(&pool)
            )));
        }
    }
    let client = AdminClient::new(&args.connect)?;
    let path = format!("/v1/routes/{}/split", segment(&args.route));
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
        print_json(&view);
    } else {
        print(&describe(&view));
    }
    warn(view.warning.as_deref());
    Ok(())
}

fn describe(view: &SplitView) -> String {
    let all: u64 = view.weights.values().map(|weight| u64::from(*weight)).sum();
    let shares = view.weights.iter().map(|(pool, weight)| {
        let percent = f64::from(*weight) * 100.0 / all.max(1) as f64;
        format!("{}={weight} ({percent:.4}", printable(pool))
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
            + " %)"
    });
    let shares: Vec<_> = shares.collect();
    let text = format!("{}: {}", printable(&view.route), shares.join(" "));
    if view.weights == view.configured {
        return text;
    }
    let configured = view.configured.iter();
    let configured: Vec<_> = configured
        .map(|(pool, weight)| format!("{}={weight}", printable(pool)))
        .collect();
    format!(
        "{text}; moved (the configuration has {})",
        configured.join(" ")
    )
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
    fn share_is_a_pool_and_a_weight() {
        assert_eq!(share("api=5"), Ok(("api".to_owned(), 5)));
        for wrong in ["api", "=5", "api=", "api=-1", "api=1000001", "api=5%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
