//! The dashboard once, as text, if standard output is no terminal.

use std::time::{Duration, Instant, SystemTime};

use super::answers::ask_proxy;
use super::model::{ProxyLook, TopModel};
use super::picture::{BackendRow, TopPicture};
use super::screen::{BackendLine, TopScreen};
use super::words::{fine_span, known_rate, span};
use crate::cli::exit::Exit;
use crate::cli::fleet::{AbsentProxy, ProxyVoice, ask_all};
use crate::client::admin_args::AdminArgs;
use crate::client::http::AdminClient;
use crate::rt::output::count;

/// Time between the two updates that rates need.
const BETWEEN: Duration = Duration::from_secs(1);

/// Updates each proxy twice, and prints.
///
/// # Errors
/// A proxy can't be reached, or standard output can't be written.
pub(super) async fn print_once(connect: &AdminArgs, filter: Option<String>) -> Result<(), Exit> {
    let screen = TopScreen::new(filter);
    ask_all(
        connect,
        AbsentProxy::Failed,
        false,
        async |client: &AdminClient, voice: &ProxyVoice| {
            let mut model = TopModel::new([client.name()]);
            let begun = Instant::now();
            for second in [false, true] {
                if second {
                    tokio::time::sleep(BETWEEN).await;
                }
                model.take_look(ProxyLook {
                    proxy: 0,
                    at: begun.elapsed(),
                    wall: SystemTime::now(),
                    answers: Ok(ask_proxy(client).await?),
                });
            }
            model.tick();
            let picture = TopPicture::of(&model, begun.elapsed(), SystemTime::now());
            Exit::answered(voice.answer(&written(&picture, &screen)))
        },
    )
    .await
}

/// The picture as lines of text.
fn written(picture: &TopPicture, screen: &TopScreen) -> String {
    let mut lines = Vec::new();
    let tiles = picture.tiles.iter();
    let figures: Vec<_> = tiles
        .map(|tile| format!("{} {}", tile.title, known_rate(tile.value)))
        .collect();
    lines.push(figures.join(", "));
    for (_, standing) in &picture.proxies {
        if let super::picture::ProxyStanding::Answers(Some(why)) = standing {
            lines.push(format!("! not ready: {why}"));
        }
    }
    lines.extend(picture.warnings.iter().map(|text| format!("! {text}")));
    let table = table(&screen.lines(picture));
    lines.extend(table);
    section(&mut lines, "drains", &picture.drains, |row| {
        let ends = row.cuts_in.map(|left| format!(", cuts in {}", span(left)));
        let left = count(
            u64::from(row.left.request + row.left.stream + row.left.upgrade),
            "request",
        );
        let oldest = row
            .oldest
            .as_ref()
            .map(|oldest| format!(", oldest {oldest}"));
        let (ends, oldest) = (ends.unwrap_or_default(), oldest.unwrap_or_default());
        format!("{}: {left} left{oldest}{ends}; {}", row.name, row.why)
    });
    section(&mut lines, "restarts", &picture.restarts, |row| {
        let ago = row
            .ago
            .map_or_else(String::new, |ago| format!("{} ago, ", span(ago)));
        let took = match row.is_over {
            true => "took",
            false => "for",
        };
        let whole = fine_span(row.whole());
        format!("{}: {ago}{took} {whole}; {}", row.name, row.account)
    });
    section(&mut lines, "splits", &picture.splits, |row| {
        let shares = row.shares.iter();
        let shares: Vec<_> = shares
            .map(|(pool, share)| format!("{pool} {share:.0} %"))
            .collect();
        let note = match row.note.as_str() {
            "" => String::new(),
            note => format!("; {note}"),
        };
        format!("{}: {}{note}", row.route, shares.join(", "))
    });
    section(&mut lines, "certificates", &picture.certificates, |row| {
        let days = count(row.days_left.max(0).unsigned_abs(), "day");
        format!("{} expires in {days} ({})", row.names, row.issuer)
    });
    lines.join("\n")
}

fn section<T>(lines: &mut Vec<String>, title: &str, rows: &[T], line: impl Fn(&T) -> String) {
    if rows.is_empty() {
        return;
    }
    lines.push(String::new());
    lines.push(title.to_owned());
    lines.extend(rows.iter().map(|row| format!(" {}", line(row))));
}

/// Pools, with their backends in columns.
fn table(entries: &[BackendLine<'_>]) -> Vec<String> {
    let heads = [
        "NAME", "STATE", "SINCE", "REQ", "STREAM", "UPGR", "REQ/S", "ERR/S", "ADDRESS",
    ];
    let cells = |row: &BackendRow| {
        [
            row.name.clone(),
            row.state.clone(),
            row.since.map_or_else(|| "–".to_owned(), span),
            row.in_flight.request.to_string(),
            row.in_flight.stream.to_string(),
            row.in_flight.upgrade.to_string(),
            known_rate(row.rates.map(|rates| rates.answers)),
            known_rate(row.rates.map(|rates| rates.errors)),
            row.address.clone(),
        ]
    };
    let mut widths = heads.map(|head| head.chars().count());
    for entry in entries {
        if let BackendLine::Backend(row) = entry {
            for (width, cell) in widths.iter_mut().zip(cells(row)) {
                *width = cell.chars().count().max(*width);
            }
        }
    }
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(widths);
        let padded: Vec<_> = padded
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ")
    };
    let mut lines = Vec::new();
    for entry in entries {
        match entry {
            BackendLine::Pool(pool) => {
                lines.push(String::new());
                lines.push(format!("{}: {}", pool.name, pool.summary));
                if !pool.backends.is_empty() {
                    let heads = heads.map(str::to_owned);
                    lines.push(format!(" {}", line(&heads)).trim_end().to_owned());
                }
            }
            BackendLine::Backend(row) => {
                let mut text = format!(" {}", line(&cells(row))).trim_end().to_owned();
                if !row.why.is_empty() {
                    text.push_str(&format!("  - {}", row.why));
                }
                lines.push(text);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn plain_text_has_each_state_with_its_reason_and_no_control_character() {
        let picture = sample::every_state();
        let text = written(&picture, &TopScreen::new(None));
        for row in picture.pools.iter().flat_map(|pool| &pool.backends) {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!(" {} ", row.name)));
            let line = line.unwrap_or_else(|| panic!("{} is not in\n{text}", row.name));
            assert!(
                line.contains(&row.state) && line.contains(&row.why),
                "{line}"
            );
        }
        assert!(text.contains("\ndrains\n api/api-3: "), "{text}");
        assert!(
            text.contains("\ncertificates\n example.org expires in 9 days"),
            "{text}"
        );
        assert!(
            !text
                .chars()
                .any(|letter| letter.is_control() && letter != '\n')
        );
    }
}
