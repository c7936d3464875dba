//! Files that supervisord's `[include]` names, by pattern.

use std::path::{Path, PathBuf};

use super::ini::{self, IniDialect};
use crate::config::file_patterns::find_files;

/// Files that a configuration includes; empty if it is of another kind.
pub(super) fn files(path: &Path, text: &str) -> Vec<PathBuf> {
    if !text.contains("[include]") {
        return Vec::new();
    }
    let here = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let (sections, _) = ini::parse(text, IniDialect::Supervisord);
    let mut found = Vec::new();
    for section in sections.iter().filter(|section| section.name == "include") {
        let Some(key) = section.last("files") else {
            continue;
        };
        for pattern in key.value.split_whitespace() {
            let pattern = pattern.replace("%(here)s/", "");
            found.extend(find_files(here, &pattern).files);
        }
    }
    // supervisord ignores names without a file.
    found.retain(|file| file != path && file.is_file());
    found
}
