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

/// What became of a configuration.
#[derive(Debug)]
pub struct ImportedConfig {
    /// lameduck's configuration.
    pub toml: String,
    /// What is left out or differs, in the order of the files.
    pub notices: Vec<ImportNotice>,
}
