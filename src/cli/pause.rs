//! `lameduck pause`: holds requests for a pool, or answers them with a page.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::FalseyValueParser;
use hyper::Method;

use super::drain::{print_warning, reason_by_default};
use super::exit::Exit;
use super::fleet::{AbsentProxy, ProxyVoice, ask_all};
use crate::client::admin_args::AdminArgs;
use crate::client::http::AnswerWait;
use crate::client::names::{duration, pool, segment};
use crate::config::plain_file::read_whole_file;
use crate::registry::pause::MAX_PAGE;
use crate::registry::view::{PauseRequest, PauseResponse};
use crate::rt::output::{count, printable};

/// Options of `lameduck pause`.
#[derive(Debug, Clone, Args)]
pub struct PauseArgs {
    /// The pool
    #[arg(value_name = "POOL", value_parser = pool)]
    pub pool: String,
    /// End the pause by itself after this long, at most 1h where requests are held [default: 5m; with --page: never]
    #[arg(long = "for", value_name = "DURATION", env = "LAMEDUCK_FOR", value_parser = duration)]
    pub length: Option<String>,
    /// Answer with this page instead of holding requests (at most 30 KiB of text)
    #[arg(long, value_name = "FILE", env = "LAMEDUCK_PAGE")]
    pub page: Option<PathBuf>,
    /// The page's status [default: 503]
    #[arg(long, value_name = "CODE", env = "LAMEDUCK_STATUS", requires = "page", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: Option<u16>,
    /// The page's Content-Type [default: by the file's name; text/html where that says nothing]
    #[arg(long, value_name = "TYPE", env = "LAMEDUCK_TYPE", requires = "page")]
    pub r#type: Option<String>,
    /// Why, shown by status and logs
    #[arg(long, value_name = "TEXT", env = "LAMEDUCK_REASON")]
    pub reason: Option<String>,
    /// Print the pause as JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    connect: AdminArgs,
}

/// Runs the command.
///
/// # Errors
/// The command failed: its exit code and message.
pub async fn run_pause(args: PauseArgs) -> Result<(), Exit> {
    let page = args.page.as_deref().map(read_page).transpose()?;
    let by_name = args.page.as_deref().and_then(media_type);
    let request = PauseRequest {
        length: args.length,
        status: args.status,
        media_type: args.r#type.or_else(|| by_name.map(str::to_owned)),
        page,
        reason: args.reason.or_else(reason_by_default),
    };
    let path = format!("/v1/pools/{}/pause", segment(&args.pool));
    ask_all(
        &args.connect,
        AbsentProxy::Failed,
        args.json,
        async |client, voice| {
            let response: PauseResponse = client
                .call(Method::POST, &path, Some(&request), AnswerWait::Short)
                .await?;
            report(voice, &args.pool, &response, args.json);
            Ok(())
        },
    )
    .await
}

fn read_page(file: &Path) -> Result<String, Exit> {
    let failed =
        |why: String| Exit::failed(format!("can't use the page {}: {why}", file.display()));
    let bytes =
        read_whole_file(file, MAX_PAGE as u64).map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| failed("it is not text in UTF-8".to_owned()))
}

/// Content type by the file's extension.
fn media_type(file: &Path) -> Option<&'static str> {
    let extension = file.extension()?.to_str()?.to_ascii_lowercase();
    Some(match &*extension {
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "xml" => "application/xml",
        _ => return None,
    })
}

/// Prints the pause that is in force now.
pub(super) fn report(voice: &ProxyVoice, pool: &str, response: &PauseResponse, json: bool) {
    if json {
        voice.print_json(response);
    } else {
        voice.print(&describe(pool, response));
    }
    print_warning(voice, response.warning.as_deref());
}

fn describe(pool: &str, response: &PauseResponse) -> String {
    let Some(pause) = &response.pause else {
        return match response.was_paused {
            true => format!(
                "{pool}: no longer paused; {} waited",
                count(response.held as u64, "request")
            ),
            false => format!("{pool}: not paused"),
        };
    };
    let what = match (pause.status, &*pause.mode) {
        (Some(status), _) => format!("requests get the page, with status {status}"),
        (None, _) => format!("requests wait ({} now)", response.held),
    };
    let until = match &pause.until {
        Some(until) => format!("until {}, or `lameduck resume {pool}`", printable(until)),
        None => format!("until `lameduck resume {pool}`"),
    };
    let again = if response.was_paused { "still " } else { "" };
    format!("{pool}: {again}paused, {what}, {until}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(value: serde_json::Value) -> PauseResponse {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_answer_says_what_happens_to_requests_and_until_when() {
        let held = response(serde_json::json!({
            "was_paused": false, "held": 3,
            "pause": {"mode": "hold", "since": "a", "until": "2026-01-01T00:00:00Z", "reason": "x"},
        }));
        assert_eq!(
            describe("app", &held),
            "app: paused, requests wait (3 now), until 2026-01-01T00:00:00Z, or `lameduck resume app`"
        );
        let page = response(serde_json::json!({
            "was_paused": true, "held": 0,
            "pause": {"mode": "page", "since": "a", "status": 503, "reason": "x"},
        }));
        assert_eq!(
            describe("app", &page),
            "app: still paused, requests get the page, with status 503, until `lameduck resume app`"
        );
        let over = response(serde_json::json!({"was_paused": true, "held": 1}));
        assert_eq!(
            describe("app", &over),
            "app: no longer paused; 1 request waited"
        );
        let never = response(serde_json::json!({"was_paused": false, "held": 0}));
        assert_eq!(describe("app", &never), "app: not paused");
    }

    #[test]
    fn the_file_s_name_says_its_type() {
        assert_eq!(media_type(Path::new("a/x.JSON")), Some("application/json"));
        assert_eq!(media_type(Path::new("a/x.html")), None);
        assert_eq!(media_type(Path::new("x")), None);
    }
}
