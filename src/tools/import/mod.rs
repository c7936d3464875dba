//! `lameduck import`: reads the configurations of other proxies, and writes them as lameduck's.
//!
//! Each of them is converted to a [`draft`], which [`writer`] writes. [`offered`] tells which keys there are.

pub mod draft;
pub mod ingress;
pub mod nginx;
pub mod notice;
pub mod offered;
pub mod writer;

use notice::ImportNotice;

/// Markdown table with a section for each topic. Each row has a topic, a name, what the import does with it, and a
/// note. `subject` is the kind of the names.
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

/// Result of an import.
#[derive(Debug)]
pub struct ImportedConfig {
    /// The lameduck configuration.
    pub toml: String,
    /// What is left out or differs, in the order of the files.
    pub notices: Vec<ImportNotice>,
}
