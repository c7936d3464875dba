//! Imports Kubernetes' Ingress objects, with the meaning that they have for ingress-nginx.
//!
//! `model` reads the objects from YAML, `annotations` has a table of all annotations, `plan` makes a [`super::draft`],
//! and [`super::writer`] writes it.
//!
//! If access to a path is restricted in a way that can't be imported, the path leads to a pool without backends, which
//! answers 503, as in [`super::nginx`]. If not even its path can be expressed, the whole host is closed.

pub mod annotations;
mod model;
mod plan;

use std::path::Path;

use super::ImportedConfig;
use super::notice::SourcePlace;
use super::writer;
use crate::config::plain_file::read_lasting_file;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Reason why a file is no list of objects.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub struct IngressReadError {
    /// File and line; line 0 means the whole file.
    pub place: SourcePlace,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Reads Ingress objects, in any number of documents and lists, and makes a lameduck configuration.
///
/// # Errors
/// The file can't be read, or is not YAML.
pub fn import_ingress(file: &Path) -> Result<ImportedConfig, IngressReadError> {
    let name = file.display().to_string();
    let refuse = |message: String| IngressReadError {
        place: SourcePlace::new(&name, 0),
        message,
    };
    let bytes = read_lasting_file(file, MAX_FILE)
        .map_err(|error| refuse(format!("can't read it: {error}; name a file of Ingress objects, such as `kubectl get ingress -A -o yaml` writes")))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| refuse("it is not UTF-8; name a file of Ingress objects in YAML".into()))?;
    let objects = model::read_objects(&name, &text)?;
    let draft = plan::plan_config(&objects);
    Ok(ImportedConfig {
        toml: writer::write_config(&draft, "ingress", &name),
        notices: draft.all_notices(),
    })
}
