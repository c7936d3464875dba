//! Every advice is pasted where it belongs, as a user would, and then nothing more is found.
//!
//! What a user does is imitated, not what doctor thinks: settings are lines of the file's own syntax. In TOML and INI
//! they replace lines or join their section; YAML and JSON are read into a tree, changed there and written as JSON.

mod tree;

use super::{corpus, own};
use lameduck::tools::doctor::{DoctorOptions, InputFile, discover, examine};
use serde_json::Value;
use std::path::PathBuf;

/// What nobody can paste: the admin socket's own configuration is another file, and files that can't be read.
const NO_SETTING: [&str; 1] = ["broken-file"];

fn findings(file: &InputFile) -> Vec<Value> {
    let reports = examine(
        std::slice::from_ref(file),
        Some(own()),
        DoctorOptions::default(),
    )
    .reports;
    reports[0].json().as_array().unwrap().clone()
}

/// Pastes what the findings say, one after the other, until nothing is found.
fn heal(mut file: InputFile) -> Result<InputFile, String> {
    for _ in 0..40 {
        let findings = findings(&file);
        let Some(first) = findings
            .iter()
            .find(|f| !NO_SETTING.contains(&f["code"].as_str().unwrap()))
        else {
            return Ok(file);
        };
        let pasted = paste(&file, first);
        if pasted == file.text {
            return Err(format!(
                "{}: nothing changed by {first:#}\n{pasted}",
                file.name
            ));
        }
        file.text = pasted;
    }
    let left = findings(&file);
    Err(format!("{}: still {left:#?}\n{}", file.name, file.text))
}

fn paste(file: &InputFile, finding: &Value) -> String {
    let help = finding["help"].as_str().unwrap();
    let line = usize::try_from(finding["line"].as_u64().unwrap()).unwrap();
    let column = usize::try_from(finding["column"].as_u64().unwrap()).unwrap();
    match file.name.rsplit_once('.').map_or("", |(_, end)| end) {
        "toml" => in_section(&file.text, line, help, "[", &[" = "]),
        "service" => unit(&file.text, line, help),
        "conf" | "ini" | "template" => {
            in_section(&file.text, line, help, "[", &["=", " = ", " :", "   =   "])
        }
        _ => tree::paste(&file.text, line, column, help),
    }
}

/// Settings go to the section of the line: in place of those with the same key, or at its end.
fn in_section(text: &str, line: usize, help: &str, opens: &str, joins: &[&str]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for setting in help.lines().filter(|line| !line.starts_with('#')) {
        let key = setting.split(['=', ':']).next().unwrap().trim();
        let start = (0..line)
            .rev()
            .find(|n| lines[*n].starts_with(opens))
            .unwrap();
        let end = (start + 1..lines.len())
            .find(|n| lines[*n].starts_with(opens))
            .unwrap_or(lines.len());
        let sets = |line: &str| {
            let rest = line.strip_prefix(key);
            rest.is_some_and(|rest| {
                joins.iter().any(|join| rest.starts_with(join.trim_end()))
                    || rest.trim_start().starts_with(['=', ':'])
            })
        };
        // A variable of the app's, within `environment`.
        if key.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
            for line in &mut lines[start..end] {
                if let Some((before, rest)) = line.clone().split_once(&format!("{key}=")) {
                    let rest = rest
                        .split_once(',')
                        .map_or(String::new(), |(_, rest)| format!(",{rest}"));
                    *line = format!("{before}{setting}{rest}");
                }
            }
            continue;
        }
        match (start..end).find(|n| sets(&lines[*n])) {
            Some(at) => {
                lines[at] = setting.to_owned();
                while lines.get(at + 1).is_some_and(|next| next.starts_with(' ')) {
                    lines.remove(at + 1);
                }
            }
            None => lines.insert(start + 1, setting.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

fn unit(text: &str, line: usize, help: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for setting in help.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = setting.split_once('=').unwrap();
        let same = |line: &String| line.starts_with(&format!("{key}="));
        let here = line - 1;
        // A drain goes before what stops the app already.
        let before = key == "ExecStop" && !value.is_empty() && !lines[here].contains("lameduck");
        let at = match lines.get(here).filter(|line| same(line)) {
            Some(_) => Some(here),
            None => lines.iter().position(same),
        };
        match at {
            Some(at) if !before => {
                while lines[at].ends_with('\\') {
                    let more = lines.remove(at + 1);
                    lines[at] = more;
                }
                lines[at] = setting.to_owned();
            }
            at => {
                let end = lines.iter().position(|line| line == "[Service]").unwrap() + 1;
                lines.insert(at.unwrap_or(end), setting.to_owned());
                // The lines of the other settings have moved.
                continue;
            }
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn pasted_advice_leaves_nothing_to_be_found() {
    let mut wrong = Vec::new();
    let mut healed = 0;
    let mut all: Vec<PathBuf> = corpus::files_of_corpus();
    all.extend(super::files("tests/doctor/bad"));
    for path in all {
        // Units with drop-ins are of two files.
        if path.to_string_lossy().contains("dropped.service") {
            continue;
        }
        let (files, errors) = discover::read(&[path]);
        assert!(errors.is_empty(), "{errors:?}");
        let mut file = files.into_iter().next().unwrap();
        // What Node printed is JSON.
        if let Some(name) = file.name.strip_suffix(" (evaluated)") {
            file.name = format!("{name}.json");
        }
        if findings(&file).is_empty() {
            continue;
        }
        match heal(file) {
            Ok(_) => healed += 1,
            Err(why) => wrong.push(why),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(healed >= 60, "{healed}");
}
