//! `lameduck changes`: recent changes by reloads, discovery, the API or launchers.

use clap::Args;
use clap::builder::FalseyValueParser;

use super::exit::Exit;
use super::fleet::{AbsentProxy, ask_all};
use crate::client::admin_args::AdminArgs;
use crate::registry::view::ChangeView;
use crate::rt::output::printable;

/// Options of `lameduck changes`.
#[derive(Debug, Clone, Args)]
pub struct ChangesArgs {
    /// Only the last N
    #[arg(long, env = "LAMEDUCK_LAST", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub last: Option<u32>,
    /// Print JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    connect: AdminArgs,
}

/// Runs the command.
///
/// # Errors
/// The command failed: its exit code and message.
pub async fn run_changes(args: ChangesArgs) -> Result<(), Exit> {
    let path = match args.last {
        Some(last) => format!("/v1/changes?last={last}"),
        None => "/v1/changes".to_owned(),
    };
    ask_all(
        &args.connect,
        AbsentProxy::Failed,
        args.json,
        async |client, voice| {
            let changes: Vec<ChangeView> = client.get(&path).await?;
            if args.json {
                return Exit::answered(voice.answer_json(&changes));
            }
            Exit::answered(voice.answer(&render(&changes)))
        },
    )
    .await
}

/// The list for people: the oldest first, so that the newest is directly above the prompt.
fn render(changes: &[ChangeView]) -> String {
    if changes.is_empty() {
        return "nothing has changed since lameduck started".to_owned();
    }
    let blocks: Vec<_> = changes.iter().map(render_change).collect();
    blocks.join("\n")
}

fn render_change(change: &ChangeView) -> String {
    let by = match &change.source {
        Some(source) => format!("{} ({})", printable(&change.by), printable(source)),
        None => printable(&change.by),
    };
    let mut text = format!("{} {by}", printable(&change.time));
    for (sign, lines) in [("+", &change.added), ("-", &change.removed)] {
        for line in lines {
            text.push_str(&format!("\n  {sign} {}", printable(line)));
        }
    }
    for changed in &change.changed {
        text.push_str(&format!("\n  ~ {}", printable(&changed.to_string())));
    }
    if change.more > 0 {
        text.push_str(&format!("\n  … and {} more", change.more));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::view::ChangedValue;

    #[test]
    fn changes_are_shown_as_a_difference() {
        assert!(render(&[]).starts_with("nothing has changed"));
        let change = ChangeView {
            id: 1,
            time: "2025-01-01T00:00:00.000Z".into(),
            by: "discovery".into(),
            source: Some("file /etc/app.json".into()),
            pool: Some("app".into()),
            added: vec!["app/a at 10.0.0.1:80".into()],
            removed: vec!["app/b\x1b[2J at 10.0.0.2:80".into()],
            changed: vec![ChangedValue {
                what: "app/c: weight".into(),
                from: "1".into(),
                to: "2".into(),
            }],
            more: 3,
        };
        let expected = "\
2025-01-01T00:00:00.000Z discovery (file /etc/app.json)
  + app/a at 10.0.0.1:80
  - app/b\u{fffd}[2J at 10.0.0.2:80
  ~ app/c: weight: 1 → 2
  … and 3 more";
        assert_eq!(render(&[change]), expected);
    }
}
