//! supervisord's configuration.

use super::checks as check;
use super::finding::Findings;
use super::ini::{Key, Section};
use super::model::{Kill, Place, Process, Supervisor};
use super::oxfile::signal;
use super::words::{Line, seconds};

/// The programs of a file.
pub(super) fn read(file: usize, sections: &[Section], found: &mut Findings) -> Vec<Process> {
    let programs = sections
        .iter()
        .filter_map(|section| Some((section.name.strip_prefix("program:")?, section)));
    programs
        .map(|(name, section)| program(file, name, section, found))
        .collect()
}

fn program(file: usize, name: &str, section: &Section, found: &mut Findings) -> Process {
    let here = Place {
        file,
        span: section.span.clone(),
    };
    let last = |key: &str| section.last(key);
    let place = |key: Option<&Key>| {
        key.map_or(here.clone(), |key| Place {
            file,
            span: key.span.clone(),
        })
    };
    let value = |key: &str| last(key).map_or("", |key| key.value.as_str());
    let is = |key: &str, words: &[&str]| words.contains(&value(key).to_ascii_lowercase().as_str());
    let (yes, no) = (["true", "yes", "on", "1"], ["false", "no", "off", "0"]);
    let written = seconds(value("stopwaitsecs"));
    let differs = ["command", "environment"]
        .iter()
        .any(|key| value(key).contains("process_num"));
    let many = value("numprocs").parse::<u32>().is_ok_and(|n| n > 1);
    let process = Process {
        supervisor: Supervisor::Supervisord,
        name: name.trim().to_owned(),
        line: Line::parse(value("command")),
        command_place: place(last("command")),
        env: environment(value("environment")),
        kill: Kill {
            after: Some(written.unwrap_or(Supervisor::Supervisord.default_kill())),
            written: written.is_some(),
            place: place(last("stopwaitsecs")),
        },
        signal: last("stopsignal").map(|key| (signal(&key.value), place(Some(key)))),
        hooks: Vec::new(),
        probes: Vec::new(),
        instances: (many && !differs).then(|| place(last("numprocs"))),
        place: here.clone(),
    };
    if process.launch().is_some_and(|launch| !launch.no_port) {
        if is("stopasgroup", &yes) {
            let what = format!("supervisord signals the whole group of `{}`", process.name);
            found.error(
                check::GROUP_KILL,
                &place(last("stopasgroup")),
                what,
                "stopasgroup=false",
            );
        }
        if is("killasgroup", &no) {
            let what = format!(
                "supervisord's SIGKILL leaves what `{}` has started behind",
                process.name
            );
            found.warning(
                check::GROUP_KILL,
                &place(last("killasgroup")),
                what,
                "killasgroup=true",
            );
        }
    }
    process
}

/// `A="1",B=2`, over several lines.
fn environment(text: &str) -> Vec<(String, String)> {
    let (mut pairs, mut part, mut quote) = (Vec::new(), String::new(), None);
    for c in text.chars().chain([',']) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => part.push(c),
            (None, '"' | '\'') => quote = Some(c),
            (None, ',' | '\n') => {
                if let Some((key, value)) = part.split_once('=') {
                    pairs.push((key.trim().to_owned(), value.trim().to_owned()));
                }
                part.clear();
            }
            (None, c) => part.push(c),
        }
    }
    pairs
}
