//! Command-line options that say which proxies a command is for: `--admin`, once or several times, and the credentials.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::blocking::AdminRemote;
use super::error::ClientError;
use super::http::AdminClient;
use super::names::AdminEndpoint;
use super::tls::AdminTls;
use crate::admin::listen::default_sockets;
use crate::config::plain_file::{LONGEST_TOKEN, read_whole_file};

/// How to reach the running proxy, or several.
#[derive(Debug, Clone, Default, Args)]
pub struct AdminArgs {
    /// The proxy's admin API: a socket's path, http://HOST:PORT or https://HOST:PORT; several of them, or one with commas:
    /// several proxies before the same apps, which are all asked [default: the first that answers of
    /// /run/lameduck/lameduck.sock and $XDG_RUNTIME_DIR/lameduck.sock]
    #[arg(
        long,
        value_name = "PATH|URL",
        env = "LAMEDUCK_ADMIN",
        value_delimiter = ',',
        help_heading = "Connection"
    )]
    pub admin: Vec<AdminEndpoint>,
    /// File with the token that changes over TCP need
    #[arg(
        long,
        visible_alias = "admin-token-file",
        value_name = "FILE",
        env = "LAMEDUCK_TOKEN_FILE",
        help_heading = "Connection"
    )]
    pub token_file: Option<PathBuf>,
    /// With https://: PEM file with the certificates of the authorities that sign the proxies' [default: the system's]
    #[arg(
        long,
        value_name = "FILE",
        env = "LAMEDUCK_ADMIN_CA",
        help_heading = "Connection"
    )]
    pub admin_ca: Option<PathBuf>,
    /// With https://: PEM file with a certificate of our own, for proxies that want one instead of a token
    #[arg(
        long,
        value_name = "FILE",
        env = "LAMEDUCK_ADMIN_CERT",
        requires = "admin_key",
        help_heading = "Connection"
    )]
    pub admin_cert: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(
        long,
        value_name = "FILE",
        env = "LAMEDUCK_ADMIN_KEY",
        requires = "admin_cert",
        help_heading = "Connection"
    )]
    pub admin_key: Option<PathBuf>,
}

/// One proxy: its addresses, and the credentials for it.
#[derive(Debug, Clone)]
pub struct ProxyAddress {
    /// Addresses of the same proxy, tried in this order.
    pub(super) endpoints: Vec<AdminEndpoint>,
    pub(super) token: Option<String>,
    pub(super) tls: Option<AdminTls>,
}

impl ProxyAddress {
    /// Its name in messages.
    pub fn name(&self) -> String {
        let names: Vec<_> = self.endpoints.iter().map(ToString::to_string).collect();
        names.join(" or ")
    }
}

impl AdminArgs {
    /// The proxies that are meant: those of `--admin`, or else the one at the default sockets.
    ///
    /// # Errors
    /// A file of a token or of TLS can't be used.
    pub fn proxies(&self) -> Result<Vec<ProxyAddress>, ClientError> {
        let token = self.token_file.as_ref().map(|path| {
            read_token(path).map_err(|error| {
                ClientError::failed(format!(
                    "can't read the token file {}: {error}; give another with --token-file",
                    path.display()
                ))
            })
        });
        let token = token.transpose()?;
        let speaks_tls = |endpoint: &AdminEndpoint| matches!(endpoint, AdminEndpoint::Tls(_));
        let tls = self.admin.iter().any(speaks_tls).then(|| {
            let path = |path: &'_ Option<PathBuf>| path.clone();
            let (ca, cert, key) = (
                path(&self.admin_ca),
                path(&self.admin_cert),
                path(&self.admin_key),
            );
            AdminTls::load(ca.as_deref(), cert.as_deref(), key.as_deref())
        });
        let tls = tls.transpose()?;
        let proxy = |endpoints| ProxyAddress {
            endpoints,
            token: token.clone(),
            tls: tls.clone(),
        };
        if self.admin.is_empty() {
            let sockets = default_sockets().into_iter();
            return Ok(vec![proxy(sockets.map(AdminEndpoint::Unix).collect())]);
        }
        let mut known: Vec<&AdminEndpoint> = Vec::new();
        for endpoint in &self.admin {
            if !known.contains(&endpoint) {
                known.push(endpoint);
            }
        }
        let each = known.into_iter();
        Ok(each.map(|endpoint| proxy(vec![endpoint.clone()])).collect())
    }

    /// A client for each of these proxies.
    ///
    /// # Errors
    /// As [`AdminArgs::proxies`].
    pub fn clients(&self) -> Result<Vec<AdminClient>, ClientError> {
        let proxies = self.proxies()?.into_iter();
        Ok(proxies.map(AdminClient::to).collect())
    }

    /// A blocking client for each of these proxies.
    ///
    /// # Errors
    /// As [`AdminArgs::proxies`].
    pub fn remotes(&self) -> Result<Vec<AdminRemote>, ClientError> {
        let proxies = self.proxies()?.into_iter();
        Ok(proxies.map(AdminRemote::to).collect())
    }
}

/// Reads the token from a file or a pipe (`--token-file <(pass lameduck)`).
fn read_token(path: &Path) -> io::Result<String> {
    let text = read_whole_file(path, LONGEST_TOKEN)?;
    let text = String::from_utf8(text)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(admin: &[&str]) -> Vec<String> {
        let connect = AdminArgs {
            admin: admin.iter().map(|one| one.parse().unwrap()).collect(),
            ..AdminArgs::default()
        };
        let proxies = connect.proxies().unwrap();
        proxies.iter().map(ProxyAddress::name).collect()
    }

    #[test]
    fn each_admin_is_a_proxy_once_and_the_default_sockets_are_one() {
        assert_eq!(
            names(&["/a.sock", "http://b:1", "/a.sock"]),
            ["/a.sock", "http://b:1"]
        );
        assert_eq!(names(&[]).len(), 1);
    }

    #[test]
    fn file_of_tls_that_cannot_be_used_is_named_by_its_option() {
        let connect = AdminArgs {
            admin: vec!["https://a:1".parse().unwrap()],
            admin_ca: Some("/nonexistent/ca.pem".into()),
            ..AdminArgs::default()
        };
        let error = connect.proxies().unwrap_err();
        assert!(
            error.message.starts_with("--admin-ca: /nonexistent/ca.pem"),
            "{error}"
        );
    }
}
