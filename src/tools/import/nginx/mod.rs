//! Imports nginx's configuration.
//!
//! In reading order: [`lexer`] reads words; [`tree`] reads directives and inserts includes (with patterns of
//! [`crate::config`]); [`scope`] knows which directives are in effect where; [`model`] has upstreams, servers and
//! locations. [`directives`] is the table of all directives, [`plan`] makes a [`super::draft`], and [`super::writer`]
//! writes it.
//!
//! The lexer is our own, because existing crates do not keep positions through includes, or are not maintained.
//!
//! # Locations
//!
//! nginx's order of locations differs from that of routes; [`plan`] maps it (`paths.rs`), with priorities. What can't
//! be imported is routed to a pool without backends, which answers 503: otherwise, a restricted path would use a less
//! specific, unrestricted route. Regular expressions are translated ([`pcre`]); if one that restricts access can't be
//! translated, one that matches more is used instead.
//!
//! # Keys
//!
//! The configuration reader decides whether this version has a key and accepts a value for it ([`super::offered`]).
//! What it does not accept is reported as a notice.

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

/// Reads nginx's configuration and makes a lameduck configuration. `prefix` is the directory for relative includes;
/// `None`: the file's directory.
///
/// # Errors
/// A file can't be read, or is not an nginx configuration.
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
