//! `[pool.tls]`.

use crate::config::built_client::BuiltClient;
use crate::config::declare::section;
use crate::config::forms::{FilePath, KeyContext, custom};
use crate::config::print;
use crate::config::values::{ValueResult, quoted, text, wrong};
use rustls::pki_types::ServerName;
use std::path::PathBuf;
use toml::de::DeValue;

section! {
    /// TLS towards the backends; leave the section out and there is none. The files are read again at each reload.
    [pool.tls]
    #[derive(Debug, Clone, PartialEq)]
    pub struct UpstreamTls {
        /// PEM file with the certificates of the authorities that sign the backends'. `""`: those of the system.
        ca: Option<PathBuf> = "", FilePath;
        /// The name that the backends' certificates must have, and that they are asked for (SNI). `""`: each backend's
        /// own host name or IP address. It never switches the verification off.
        server_name: Option<String> = "", custom("text", read_server_name, |name| print::maybe(name.as_ref())).public();
        /// PEM file with lameduck's own certificate and its chain, for backends that want one (mutual TLS). `""`: none.
        cert: Option<PathBuf> = "", FilePath;
        /// PEM file with its private key.
        key: Option<PathBuf> = "", FilePath;
        /// Whether the backends' certificates are verified. `false`: whoever answers is believed.
        verify: bool = true;
    }
    state {
        /// All of that, ready for use; `None` until the files have been read.
        client: Option<BuiltClient> = None, |_| None;
    }
}

impl UpstreamTls {
    /// Returns the settings when nothing is written: the system's authorities, and no certificate of our own.
    pub fn unwritten_settings() -> Self {
        Self {
            ca: None,
            server_name: None,
            cert: None,
            key: None,
            verify: true,
            client: None,
        }
    }

    /// Whether `other` has the same settings, whatever the contents of the files.
    pub fn is_written_like(&self, other: &Self) -> bool {
        let written = |tls: &Self| Self {
            client: None,
            ..tls.clone()
        };
        written(self) == written(other)
    }

    /// Returns the files that it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.ca, &self.cert, &self.key].into_iter().flatten()
    }
}

fn read_server_name(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<String>> {
    let name = text(key.name, value, "app.internal")?;
    if !name.is_empty() && ServerName::try_from(name).is_err() {
        return Err(wrong(
            key.name,
            quoted(name),
            "it is neither a host name nor an IP address",
            "write it as the certificate has it, without a port, such as \"app.internal\"",
        ));
    }
    Ok((!name.is_empty()).then(|| name.to_owned()))
}
