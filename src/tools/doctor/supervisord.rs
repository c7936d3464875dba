//! supervisord's configuration. `[fcgi-program:x]` uses FastCGI, and `[eventlistener:x]` communicates with supervisord;
//! so neither is a backend.

use super::checks as check;
use super::command_line::{CommandLine, seconds};
use super::finding::DoctorFindings;
use super::ini::{IniKey, IniSection};
use super::model::{CommandForm, FindingPlace, SupervisedProcess, Supervisor, kill};
use super::signal_name::signal_name;

/// Programs of a file.
pub(super) fn read(
    file: usize,
    sections: &[IniSection],
    found: &mut DoctorFindings,
) -> Vec<SupervisedProcess> {
    let programs = sections
        .iter()
        .filter_map(|section| Some((section.name.strip_prefix("program:")?, section)));
    programs
        .map(|(name, section)| program(file, name, section, found))
        .collect()
}

fn program(
    file: usize,
    name: &str,
    section: &IniSection,
    found: &mut DoctorFindings,
) -> SupervisedProcess {
    let here = FindingPlace {
        file,
        span: section.span.clone(),
    };
    let last = |key: &str| section.last(key);
    let place = |key: Option<&IniKey>| {
        key.map_or(here.clone(), |key| FindingPlace {
            file,
            span: key.span.clone(),
        })
    };
    let value = |key: &str| last(key).map_or("", |key| key.value.as_str());
    let is = |key: &str, words: &[&str]| words.contains(&value(key).to_ascii_lowercase().as_str());
    let (yes, no) = (["true", "yes", "on", "1"], ["false", "no", "off", "0"]);
    let differs = ["command", "environment"]
        .iter()
        .any(|key| value(key).contains("process_num"));
    let many = value("numprocs").parse::<u32>().is_ok_and(|n| n > 1);
    let mut process = SupervisedProcess::new(
        Supervisor::Supervisord,
        CommandForm::Ini,
        name.trim(),
        here.clone(),
    );
    process.line = CommandLine::parse(&value("command").replace('\n', " "));
    process.command_place = place(last("command"));
    process.env = environment(value("environment"));
    process.kill = kill(
        Supervisor::Supervisord,
        last("stopwaitsecs").map(|key| key.value.as_str()),
        seconds,
        place(last("stopwaitsecs")),
    );
    process.signal = last("stopsignal")
        .filter(|key| !key.value.contains('%'))
        .map(|key| (signal_name(&key.value), place(Some(key))));
    process.several = many;
    process.instances = (many && !differs).then(|| place(last("numprocs")));
    if process.launch().is_some_and(|launch| !launch.no_port) {
        if is("stopasgroup", &yes) {
            let what = format!("supervisord signals the whole group of `{}`", process.name);
            let at = place(last("stopasgroup"));
            // supervisord refuses stopasgroup without killasgroup, so both are written.
            found.error(
                check::GROUP_KILL,
                &at,
                what,
                "stopasgroup=false\nkillasgroup=true",
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

/// Parses `A="1",B=2`, which may have several lines.
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
