//! Manual page of the configuration file, made from the declared sections and keys.

use clap_mangen::roff::{Roff, bold, roman};

use super::ManualPage;
use super::prose::{paragraph, spans};
use crate::config::schema::{KeySchema, SECTIONS};

const EXAMPLE: &str = include_str!("../../../config/minimal.toml");

/// The page `lameduck.toml(5)`.
pub(super) fn page(date: &str) -> ManualPage {
    let mut roff = Roff::new();
    let source = concat!("lameduck ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["lameduck.toml", "5", date, source, "lameduck"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("lameduck.toml - configuration of lameduck")]);
    roff.control("SH", ["DESCRIPTION"]);
    for (n, text) in [
        "lameduck reads one file in TOML: the one that `-c FILE` or `LAMEDUCK_CONFIG` names, else `./lameduck.toml`, \
         else `/etc/lameduck/lameduck.toml`. A key that is not known is an error.",
        "`lameduck check -c FILE` says what is wrong with a file, `lameduck check --print` what it amounts to. \
         `lameduck reload` makes the running proxy read it again; a broken file is refused, and the old one stays in \
         force. Keys that need a restart say so.",
        "A section in double brackets may be there several times: `[[pool]]`, and `[[pool.backend]]` below each.",
    ]
    .into_iter()
    .enumerate()
    {
        if n > 0 {
            roff.control("PP", []);
        }
        paragraph(&mut roff, text);
    }
    roff.control("SH", ["EXAMPLE"]);
    roff.control("EX", []);
    for line in EXAMPLE.lines() {
        roff.text([roman(line)]);
    }
    roff.control("EE", []);
    roff.control("SH", ["SECTIONS AND KEYS"]);
    for section in &SECTIONS[..] {
        if section.keys.is_empty() && section.name.is_empty() {
            continue;
        }
        let header = match section.header {
            "[]" | "" => "Above all sections",
            header => header,
        };
        roff.control("SS", [header]);
        paragraph(&mut roff, section.doc);
        for key in section.keys {
            add_key(&mut roff, key);
        }
    }
    roff.control("SH", ["FILES"]);
    roff.control("TP", []);
    roff.text([bold("/etc/lameduck/lameduck.toml")]);
    roff.text([roman("the packages' configuration")]);
    roff.control("SH", ["SEE ALSO"]);
    let see = ["lameduck", "lameduck-check", "lameduck-reload"];
    let mut line = Vec::new();
    for name in see {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.push(bold(name));
        line.push(roman("(1)"));
    }
    roff.text(line);
    ManualPage {
        name: "lameduck.toml.5".to_owned(),
        text: roff.to_roff().into_bytes(),
    }
}

fn add_key(roff: &mut Roff, key: &KeySchema) {
    roff.control("TP", []);
    let default = match key.default {
        Some(default) => format!("; default {default}"),
        None if key.is_needed => format!("; needed, such as {}", key.example),
        None => String::new(),
    };
    roff.text([
        bold(key.name),
        roman(format!(" ({}{default})", key.form.replace('`', ""))),
    ]);
    let mut doc = key.doc.to_owned();
    if key.restart && !doc.contains("restart") {
        doc.push_str(" A change needs a restart.");
    }
    roff.text(spans(&doc));
}
