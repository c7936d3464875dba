//! Keeps the documentation honest: what it shows as configuration is accepted without a warning, what it shows
//! as a command is understood, what it links to is there.
//!
//! It reads fenced blocks by their language: `toml` is a configuration (or a part of one), `sh`, `console` and
//! `ini` hold commands; in `console`, lines with `$ ` are typed and the others are output.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

#[path = "docs/api_page.rs"]
mod api_page;
#[path = "docs/book.rs"]
mod book;
#[path = "docs/examples.rs"]
mod examples;
#[path = "docs/habits.rs"]
mod habits;
#[path = "docs/hand_over.rs"]
mod hand_over;
#[path = "docs/log_lines.rs"]
mod log_lines;
#[path = "docs/monitoring.rs"]
mod monitoring;
#[path = "docs/pictures.rs"]
mod pictures;
#[path = "docs/shell.rs"]
mod shell;
#[path = "docs/start.rs"]
mod start;
#[path = "docs/tour.rs"]
mod tour;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;
use lameduck::cli::Cli;
use lameduck::config;

struct Page {
    path: PathBuf,
    text: String,
}

struct Block {
    language: String,
    line: usize,
    text: String,
}

/// The pages for people: those at the top, everything in `docs/`, and why things are as they are.
fn pages() -> Vec<Page> {
    let mut paths = vec![
        "README.md".into(),
        "CHANGELOG.md".into(),
        "CONTRIBUTING.md".into(),
        "deploy/README.md".into(),
    ];
    paths.extend(docs());
    paths.extend(markdown("docs/decisions"));
    paths
        .into_iter()
        .map(|path: PathBuf| Page {
            text: std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            path,
        })
        .collect()
}

fn docs() -> Vec<PathBuf> {
    markdown("docs")
}

fn markdown(dir: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect();
    paths.sort();
    paths
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (n, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => {
                open = Some(Block {
                    language: language.trim().to_owned(),
                    line: n + 1,
                    text: String::new(),
                });
            }
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// A part of a configuration, with what it needs around it.
fn whole(part: &str) -> String {
    let mut text = String::new();
    // What stands above all sections goes first.
    if part.starts_with("include = ") {
        text.push_str(part);
        return text + "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[pool]]\nname = \"app\"\n";
    }
    if !part.contains("[[listener]]") {
        text.push_str("[[listener]]\naddress = \"127.0.0.1:8080\"\n");
    }
    // Routes that answer by themselves need no pool.
    let leads_to_pool = ["pool = ", "split = "].iter().any(|key| part.contains(key));
    if !part.contains("[[pool]]") && (leads_to_pool || !part.contains("[[route]]")) {
        text.push_str("[[pool]]\nname = \"app\"\n");
        if !part.contains("[[pool.backend]]") {
            text.push_str("[[pool.backend]]\naddress = \"127.0.0.1:3000\"\n");
        }
    }
    text + part
}

#[test]
fn configurations_are_accepted_without_a_warning() {
    let mut seen = 0;
    for page in pages() {
        for block in blocks(&page.text) {
            if block.language != "toml" {
                continue;
            }
            seen += 1;
            let place = format!("{}:{}", page.path.display(), block.line);
            match config::parse(&place, &whole(&block.text)) {
                Ok(loaded) => {
                    let warnings = loaded.warnings.render(false);
                    assert!(warnings.is_empty(), "{place}\n{warnings}");
                }
                Err(error) => panic!("{place}\n{}", error.render(false)),
            }
        }
    }
    assert!(seen >= 5, "only {seen} configurations found");
}

/// The lines of a block that are commands, continued lines joined.
fn typed(block: &Block) -> Vec<String> {
    let joined = block.text.replace("\\\n", " ");
    joined
        .lines()
        .filter_map(|line| match block.language.as_str() {
            "console" => line.trim_start().strip_prefix("$ ").map(str::to_owned),
            "sh" => Some(line.to_owned()),
            // A unit's `ExecStop=-/usr/bin/lameduck …`.
            "ini" => line
                .split_once('=')
                .filter(|(key, _)| key.starts_with("Exec") || key.trim().ends_with("_cmd"))
                .map(|(_, value)| {
                    value
                        .trim_start_matches([' ', '-', '"'])
                        .trim_end_matches('"')
                })
                .map(str::to_owned),
            _ => None,
        })
        .collect()
}

/// The commands of a line, in words. Knows quotes, comments, redirections, and what joins commands; no more.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let (mut word, mut quote, mut inside) = (String::new(), None, false);
    for c in format!("{line} ").chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                inside = true;
            }
            (None, '#') if word.is_empty() && !inside => break,
            (None, ' ' | '\t' | ';' | '&' | '|' | '(' | ')') => {
                if inside || !word.is_empty() {
                    all.last_mut().unwrap().push(std::mem::take(&mut word));
                }
                inside = false;
                if !matches!(c, ' ' | '\t') {
                    all.push(Vec::new());
                }
            }
            (None, c) => word.push(c),
        }
    }
    assert!(quote.is_none(), "a quote is not closed: {line}");
    for words in &mut all {
        let mut kept: Vec<String> = Vec::new();
        let mut target = false;
        for word in words.drain(..) {
            let redirects = word.starts_with('>') || word.starts_with("2>");
            let leads = kept.is_empty()
                && (word.contains('=') || ["do", "then", "if", "!"].contains(&word.as_str()));
            if !(std::mem::replace(&mut target, redirects && word.ends_with('>'))
                || redirects
                || leads)
            {
                kept.push(word);
            }
        }
        *words = kept;
    }
    all.retain(|words| !words.is_empty());
    all
}

/// Parses one command of ours; `None`: it is somebody else's.
fn understood(words: &[String]) -> Option<Result<(), String>> {
    let program = Path::new(words.first()?).file_name()?;
    if program != "lameduck" {
        return None;
    }
    // What a shell would put in.
    let words = words
        .iter()
        .map(|word| word.replace("$name", "app-1").replace("%i", "app-1"));
    Some(match Cli::try_parse_from(words) {
        Ok(_) => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    })
}

#[test]
fn commands_are_understood() {
    let mut seen = 0;
    for page in pages() {
        for block in blocks(&page.text) {
            for line in typed(&block) {
                for words in commands(&line) {
                    if let Some(parsed) = understood(&words) {
                        seen += 1;
                        let place = format!("{}:{}", page.path.display(), block.line);
                        assert!(parsed.is_ok(), "{place}\n{line}\n{parsed:?}");
                    }
                }
            }
        }
    }
    assert!(seen >= 20, "only {seen} commands found");
}

/// As in the documentation, in the units that people install.
#[test]
fn units_run_what_is_there() {
    let mut seen = 0;
    for entry in std::fs::read_dir("deploy/systemd").unwrap() {
        let path = entry.unwrap().path();
        let unit = Block {
            language: "ini".into(),
            line: 0,
            text: std::fs::read_to_string(&path).unwrap(),
        };
        for line in typed(&unit) {
            for parsed in commands(&line).iter().filter_map(|words| understood(words)) {
                seen += 1;
                assert!(parsed.is_ok(), "{}: {line}\n{parsed:?}", path.display());
            }
        }
    }
    assert!(seen >= 5, "only {seen} commands found");
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

/// The targets of a page's links, code left out.
fn links(text: &str) -> Vec<String> {
    let mut prose = text.to_owned();
    for block in blocks(text) {
        prose = prose.replace(&block.text, "");
    }
    prose
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target.to_owned()))
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in pages() {
        for link in links(&page.text) {
            if link.starts_with("https://") {
                continue;
            }
            seen += 1;
            let (file, place) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => page.path.clone(),
                file => page.path.parent().unwrap().join(file),
            };
            let found = match place {
                "" => target.exists(),
                place => std::fs::read_to_string(&target)
                    .is_ok_and(|text| anchors(&text).contains(place)),
            };
            if !found {
                broken.push(format!("{}: {link}", page.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(seen >= 20, "only {seen} links found");
}

#[test]
fn the_index_names_every_page() {
    let index = std::fs::read_to_string("docs/README.md").unwrap();
    let linked: BTreeSet<_> = links(&index).into_iter().collect();
    for path in docs() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(
            name == "README.md" || linked.contains(&name),
            "docs/README.md doesn't link to {name}"
        );
    }
}

#[test]
fn the_index_of_decisions_names_every_page() {
    let index = std::fs::read_to_string("docs/decisions/README.md").unwrap();
    let linked: BTreeSet<_> = links(&index).into_iter().collect();
    for path in markdown("docs/decisions") {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(
            name == "README.md" || linked.contains(&name),
            "docs/decisions/README.md doesn't link to {name}"
        );
    }
}

#[test]
fn the_reader_of_commands_reads() {
    let words = |line: &str| commands(line);
    assert_eq!(words("# nothing"), Vec::<Vec<String>>::new());
    assert_eq!(
        words("PORT=1 node app.mjs & curl -s 'a b' 2> x | lameduck status  # that"),
        [
            vec!["node", "app.mjs"],
            vec!["curl", "-s", "a b"],
            vec!["lameduck", "status"]
        ]
    );
    for (line, good) in [
        ("lameduck drain app/$name --timeout 30s", true),
        ("/usr/bin/lameduck drain app/%i", true),
        ("lameduck --version", true),
        ("lameduck drain app --frobnicate", false),
        ("lameduck roll app", false),
    ] {
        let parsed = understood(&commands(line)[0]).unwrap();
        assert_eq!(parsed.is_ok(), good, "{line}: {parsed:?}");
    }
    assert!(understood(&["curl".to_owned()]).is_none());
    assert_eq!(anchor("What `drained` means"), "what-drained-means");
}
