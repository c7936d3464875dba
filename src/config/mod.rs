//! Configuration: the file as users write it, its errors, and its run-time form.
//!
//! In reading order: `sections` has a file for each section, which declares its keys; `declare` defines how, and
//! `forms` how values are written. `reader` walks the file's tables, `dependent_defaults` adapts defaults to the
//! written values, and `validate` checks values in combination: errors are collected on the way, not thrown.
//! [`mod@load`] is the entry point: it combines the files that `include` names (`include`, `merge`, `sources`) and
//! the values of `${NAME}` (`variables`). [`schema`] is the declarations as data, [`mod@print`] the way back to TOML,
//! [`mod@diff`] the changes of a reload.
//!
//! The TOML is walked as a tree of spanned values rather than through serde: serde stops at the first error, and a
//! user with three mistakes should see three.

pub mod address;
mod admin;
mod backend_names;
mod built_client;
mod declare;
mod dependent_defaults;
pub mod diagnostics;
pub mod diff;
mod discovery;
pub mod duration;
mod error_pages;
pub mod example;
mod excerpt;
mod expanded_value;
pub(crate) mod file_patterns;
mod files;
mod forms;
pub mod from_args;
mod hash_key;
mod health;
mod hidden_texts;
mod include;
mod listen_address;
mod listener;
pub mod load;
mod merge;
pub mod own_address;
pub(crate) mod plain_file;
mod ports;
pub mod print;
mod reader;
mod routes;
pub mod schema;
mod section_traits;
mod sections;
pub mod size;
mod sources;
pub(crate) mod suggest;
mod syntax;
mod unsupported;
mod upstream_tls;
mod validate;
mod values;
mod variables;
mod words;

pub use address::Address;
pub use built_client::BuiltClient;
pub(crate) use diagnostics::tame;
pub use diagnostics::{ConfigError, ConfigReport, Diagnostic, Severity};
pub use diff::{ConfigChange, ConfigDiff, diff};
pub use error_pages::{ErrorPage, ErrorPages, PageStatus};
pub use files::{CachePolicy, CacheRule, PathPattern, TryStep};
pub use from_args::{CommandLineFlags, resolve};
pub use hash_key::HashKey;
pub use hidden_texts::HiddenTexts;
pub use listen_address::ListenAddress;
pub use load::{DEFAULT_PATHS, FileChecks, LoadedConfig, load, parse};
pub use reader::ConfigFindings;
pub use routes::{
    CertificateDemand, ConnectionLimit, FieldMatch, FieldRule, ForwardAddress, LimitKey,
    MOST_WEIGHT, MatchedPath, MirrorConfig, PathRewrite, Placeholder, RequestRate, SplitKey,
    SplitShare, TemplatePiece, TextMatch, TextTemplate, compile_regex, compile_regexes,
};
pub(crate) use routes::{MAX_PREFIX, MAX_RULES};
pub use sections::*;
pub use sources::SourceTexts;
pub use values::check_name;
pub(crate) use words::plain;
