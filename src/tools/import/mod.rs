//! `lameduck import`: other proxies' configurations, read and written as lameduck's.
//!
//! Each of them is planned into a [`draft`], which [`writer`] writes down. [`offered`] says which keys there are.

pub mod draft;
pub mod ingress;
pub mod nginx;
pub mod notice;
pub mod offered;
pub mod writer;

use notice::ImportNotice;

/// A table of what becomes of each of these as Markdown, a section for each topic. A row: its topic, its name, what
/// becomes of it, and a note. `subject`: what the names are of.
fn fate_tables<'a>(subject: &str, rows: impl Iterator<Item = [&'a str; 4]>) -> String {
    let mut out = String::new();
    let mut last = "";
    for [topic, name, fate, note] in rows {
        if topic != last {
            last = topic;
            out.push_str(&format!(
                "\n### {topic}\n\n| {subject} | import | |\n|---|---|---|\n"
            ));
        }
        let note = note.replace('|', "\\|");
        out.push_str(&format!("| `{name}` | {fate} | {note} |\n"));
    }
    out
}

/// What became of a configuration.
#[derive(Debug)]
pub struct ImportedConfig {
    /// lameduck's configuration.
    pub toml: String,
    /// What is left out or differs, in the order of the files.
    pub notices: Vec<ImportNotice>,
}
