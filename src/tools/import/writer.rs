//! Writes a draft as TOML, with its notices as comments in their places.

use super::draft::{ConfigDraft, DraftKeys, toml_text};
use super::notice::ImportNotice;
use crate::rt::output::printable;

/// Writes the whole file. `source` is the name of the imported file, `kind` the argument of `lameduck import`.
pub fn write_config(draft: &ConfigDraft, kind: &str, source: &str) -> String {
    let mut out = TomlWriter::default();
    out.comment(&format!("Made from {source} by `lameduck import {kind}`."));
    out.comment("What is left out, and what differs, stands at its place, with file and line.");
    out.comment(&format!(
        "docs/from-{kind}.md says what differs in every case."
    ));
    out.notices(&draft.notices);
    out.section("[server]", &draft.server);
    out.section("[access_log]", &draft.access_log);
    out.section("[headers]", &draft.headers);
    out.section("[compression]", &draft.compression);
    for listener in &draft.listeners {
        out.gap();
        out.notices(&listener.notices);
        if listener.keys.is_empty() {
            continue;
        }
        out.table("[[listener]]", &listener.keys);
        out.section("[listener.tls]", &listener.tls);
        for (cert, key) in &listener.certificates {
            let keys = vec![("cert", toml_text(cert)), ("key", toml_text(key))];
            out.section("[[listener.tls.certificates]]", &keys);
        }
    }
    for pool in &draft.pools {
        out.gap();
        out.comment(&pool.title);
        out.notices(&pool.notices);
        let mut keys = vec![("name", toml_text(&pool.name))];
        keys.extend(pool.keys.iter().cloned());
        out.table("[[pool]]", &keys);
        for backend in &pool.backends {
            out.gap();
            out.notices(&backend.notices);
            if !backend.keys.is_empty() {
                out.table("[[pool.backend]]", &backend.keys);
            }
        }
        for (name, keys) in &pool.sections {
            out.section(&format!("[pool.{name}]"), keys);
        }
    }
    for group in &draft.routes {
        out.gap();
        out.comment(&group.title);
        out.notices(&group.notices);
        for route in &group.routes {
            out.notices(&route.notices);
            if route.is_route() {
                out.table("[[route]]", &route.all_keys());
                out.gap();
            }
        }
    }
    out.text.trim_end().to_owned() + "\n"
}

#[derive(Debug, Default)]
struct TomlWriter {
    text: String,
}

impl TomlWriter {
    fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    fn comment(&mut self, text: &str) {
        if !text.is_empty() {
            self.text.push_str(&format!("# {}\n", printable(text)));
        }
    }

    fn notices(&mut self, notices: &[ImportNotice]) {
        for notice in notices {
            self.comment(&notice.to_string());
        }
    }

    /// Writes a section with its keys, unless it has none.
    fn section(&mut self, header: &str, keys: &DraftKeys) {
        if !keys.is_empty() {
            self.gap();
            self.table(header, keys);
        }
    }

    fn table(&mut self, header: &str, keys: &DraftKeys) {
        self.text.push_str(&format!("{header}\n"));
        for (key, value) in keys {
            self.text.push_str(&format!("{key} = {value}\n"));
        }
    }
}
