//! nginx's configuration as lameduck's.
//!
//! In reading order: [`lexer`] has the words, [`tree`] the directives with includes in their place (patterns: [`crate::config`]'s),
//! [`scope`] what is in effect where, [`model`] upstreams, servers and locations. [`directives`] is the table of what
//! becomes of each directive, [`plan`] decides, into a [`super::draft`], and [`super::writer`] writes that down.
//!
//! The lexer is our own: the crates that there are don't keep positions through includes, or are not kept up.
//!
//! # Locations
//!
//! nginx's order of locations is not that of routes; [`plan`] has the mapping (`paths.rs`), with priorities. What
//! can't be carried over is routed to a pool without backends that answers 503: without it, a guarded path would fall
//! to a less specific, open route. Regular expressions are translated ([`pcre`]); where one that restricts access
//! can't be, one that fits more takes its place.
//!
//! # Keys
//!
//! Whether this version has a key, and takes a value for it, is asked of the reader of its configuration
//! ([`super::offered`]). What it doesn't take stays a notice.

pub mod directives;
pub mod lexer;
pub mod listen;
pub mod model;
pub mod pcre;
pub mod plan;
pub mod scope;
pub mod tree;

use std::path::{Path, PathBuf};

use super::ImportedConfig;
use super::writer;
use tree::{NginxReadError, TreeReader};

/// Reads nginx's configuration and writes lameduck's. `prefix`: what includes are relative to; `None`: the file's directory.
///
/// # Errors
/// It, or what it includes, can't be read, or is no configuration of nginx's.
pub fn import_nginx(file: &Path, prefix: Option<&Path>) -> Result<ImportedConfig, NginxReadError> {
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let prefix = prefix
        .or(parent)
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let tree = TreeReader::new(prefix).read_file(file)?;
    let draft = plan::plan_config(&tree);
    Ok(ImportedConfig {
        toml: writer::write_config(&draft, "nginx", &file.display().to_string()),
        notices: draft.all_notices(),
    })
}
