//! Manual pages of the commands: options from the parser, and what it doesn't know: exit codes, variables, files and
//! related pages.

use std::io::{self, Write};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::ManualPage;
use super::prose::{entry, paragraph};
use crate::cli::exit;

/// Variables that belong to no option.
const VARIABLES: [(&str, &str); 5] = [
    (
        "LAMEDUCK_ADMIN",
        "the admin sockets or addresses of the running proxies, with commas between them, instead of `--admin`",
    ),
    (
        "LAMEDUCK_LOG",
        "what lameduck's own log says: `error`, `warn`, `info` (the default), `debug`, or filters for modules",
    ),
    (
        "LAMEDUCK_LOG_FORMAT",
        "the form of that log: `text` or `json`",
    ),
    ("NO_COLOR", "no colours, whatever its value"),
    (
        "NOTIFY_SOCKET",
        "where a supervisor is told that the proxy is ready, as systemd wants it",
    ),
];

/// Files that commands read by default.
const FILES: [(&str, &str); 4] = [
    (
        "./lameduck.toml, /etc/lameduck/lameduck.toml",
        "the configuration, where no `-c` names one: the first that is there",
    ),
    (
        "/run/lameduck/lameduck.sock",
        "the admin socket: commands find the running proxy by it",
    ),
    (
        "$XDG_RUNTIME_DIR/lameduck.sock",
        "the same for a proxy that is not the system's",
    ),
    (
        "/var/lib/lameduck",
        "`state_dir` of the packages: drains and registrations survive a restart there",
    ),
];

/// A page for each command and each subcommand.
pub(super) fn pages(date: &str) -> Vec<ManualPage> {
    let mut root = crate::cli::shown_commands().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    add(&root, None, date, &mut pages);
    pages
}

fn add(command: &Command, parent: Option<&Command>, date: &str, pages: &mut Vec<ManualPage>) {
    let mut text = Vec::new();
    // Writing to memory can't fail.
    let _ = render(command, parent, date, &mut text);
    pages.push(ManualPage {
        name: format!("{}.1", page_name(command)),
        text: remove_extra_breaks(&text),
    });
    for child in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        add(child, Some(command), date, pages);
    }
}

/// Removes the breaks that clap_mangen puts around empty lines: these are breaks already, and mandoc warns of each.
fn remove_extra_breaks(page: &[u8]) -> Vec<u8> {
    let page = String::from_utf8_lossy(page);
    let lines: Vec<_> = page.lines().collect();
    let mut text = String::with_capacity(page.len());
    for (at, line) in lines.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| lines[at]);
        let near = [before, lines.get(at + 1).copied()];
        if *line == ".br" && near.contains(&Some("")) {
            continue;
        }
        text.push_str(line);
        text.push('\n');
    }
    text.into_bytes()
}

fn page_name(command: &Command) -> &str {
    command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
}

fn render(
    command: &Command,
    parent: Option<&Command>,
    date: &str,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let man = Man::new(command.clone())
        .date(date)
        .source(concat!("lameduck ", env!("CARGO_PKG_VERSION")))
        .manual("lameduck");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    if command.get_arguments().any(|one| !one.is_hide_set()) {
        man.render_options_section(out)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(out)?;
    }
    // The help's last part is about exit codes, or a section of its own.
    let below = parent
        .and(command.get_after_help())
        .map(ToString::to_string);
    let own_codes = below
        .as_deref()
        .and_then(|text| text.strip_prefix("Exit codes: "));
    if below.is_some() && own_codes.is_none() {
        man.render_extra_section(out)?;
    }
    let mut rest = Roff::new();
    rest.control("SH", ["EXIT STATUS"]);
    match own_codes {
        Some(text) => paragraph(&mut rest, text),
        None => exit::CODES
            .iter()
            .for_each(|(code, meaning)| entry(&mut rest, &code.to_string(), meaning)),
    }
    rest.control("SH", ["ENVIRONMENT"]);
    paragraph(
        &mut rest,
        "Each option has a variable, named with it above: an option on the line wins. Beside them:",
    );
    for (name, meaning) in VARIABLES {
        entry(&mut rest, name, meaning);
    }
    rest.control("SH", ["FILES"]);
    for (name, meaning) in FILES {
        entry(&mut rest, name, meaning);
    }
    see_also(&mut rest, command, parent);
    out.write_all(rest.to_roff().as_bytes())
}

fn see_also(roff: &mut Roff, command: &Command, parent: Option<&Command>) {
    let mut names: Vec<(String, &str)> = Vec::new();
    names.extend(parent.map(|parent| (page_name(parent).to_owned(), "1")));
    let near = parent.unwrap_or(command).get_subcommands();
    let near = near.chain(command.get_subcommands());
    let near = near.filter(|one| !one.is_hide_set() && page_name(one) != page_name(command));
    names.extend(near.map(|one| (page_name(one).to_owned(), "1")));
    names.push(("lameduck.toml".to_owned(), "5"));
    names.sort();
    names.dedup();
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (name, section) in names {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.push(bold(name));
        line.push(roman(format!("({section})")));
    }
    roff.text(line);
}
