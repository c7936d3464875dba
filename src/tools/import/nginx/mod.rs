//! nginx's configuration as lameduck's.
//!
//! In reading order: [`lexer`] has the words, [`tree`] the directives with includes in their place (patterns: [`crate::config`]'s),
//! [`scope`] what is in effect where, [`model`] upstreams, servers and locations. [`directives`] is the table of what
//! becomes of each directive, [`plan`] decides, into a [`draft`], and [`writer`] writes that down.
//!
//! The lexer is our own: the crates that there are don't keep positions through includes, or are not kept up.
//!
//! # Locations
//!
//! nginx takes an exact location; else the longest prefix, if that is `^~`; else the first regular expression that
//! matches; else the longest prefix. lameduck compares whole segments, and has prefixes only: so exact and regular
//! locations are left out by name, unless their requests go to the same pool anyway. What is left out as a prefix, or as
//! an exact path with nothing below it, is routed to a pool without backends that answers 503: without it, a guarded path
//! would fall to a less specific, open route.
//!
//! Once routes have `path` and `path_regex`, in the order exact, longest prefix, regular expression, nginx's order maps
//! so: exact locations become `path`, `^~` prefixes `path_prefix`. A prefix without `^~` stands behind the regular
//! expressions in nginx, and before them in lameduck: where a server has regular expressions, such a prefix becomes
//! `path_regex = "^/prefix"`, behind nginx's own in their order, the longest first. (As a regular expression it also
//! compares letter by letter, as nginx does.) A `^~` prefix with a longer plain prefix below it can't be said that way:
//! the longer one would have to come before it and behind the expressions. That one is to be left out by name.

pub mod directives;
pub mod draft;
pub mod lexer;
pub mod listen;
pub mod model;
pub mod plan;
pub mod scope;
pub mod tree;
pub mod writer;

use std::path::{Path, PathBuf};

use super::notice::ImportNotice;
use tree::{NginxReadError, TreeReader};

/// What became of a configuration.
#[derive(Debug)]
pub struct ImportedConfig {
    /// lameduck's configuration.
    pub toml: String,
    /// What is left out or differs, in the order of the files.
    pub notices: Vec<ImportNotice>,
}

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
        toml: writer::write_config(&draft, &file.display().to_string()),
        notices: draft.all_notices(),
    })
}
