//! `[listener.tls]` and `[[listener.tls.certificates]]`.

use super::ManagedCertificate;
use crate::config::declare::{section, words};
use crate::config::forms::{
    ConfigValue as _, CustomForm, FilePath, KeyContext, ValueForm as _, custom,
};
use crate::config::print;
use crate::config::reader::{ConfigFindings, ConfigTable};
use crate::config::schema::KeySchema;
use crate::config::section_traits::{
    ConfigSection as _, KeyGroup, PrintExtent, PrintedSections, Subsection as _, TomlEntries,
};
use crate::config::values::{ValueResult, path_of, quoted, wrong};
use std::path::PathBuf;
use toml::de::DeValue;

section! {
    /// TLS on a listener; in one line: `tls = { cert = "FILE", key = "FILE" }`. The files are read again on a reload
    /// and when they change.
    [listener.tls]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ListenerTls {
        /// Whether clients show a certificate. The app learns of it in `X-Client-Cert-…`.
        client_auth: ClientAuth = "off";
        /// PEM file with the certificates of those who may sign clients'. Needed unless `client_auth = "off"`.
        client_ca: Option<PathBuf> = "", FilePath;
        /// PEM file with revocation lists: one of each authority in the chains of clients' certificates. Revoked ones
        /// are refused.
        client_crl: Option<PathBuf> = "", FilePath;
        /// The oldest version of TLS that is spoken.
        min_version: TlsVersion = "1.2", version();
    }
    group {
        /// Certificates with their keys; the first is for clients that ask for no name that we have.
        certificates: Vec<CertificateFiles>;
    }
    state {
        /// Those that `[listener.acme]` orders, behind the others.
        managed: Vec<ManagedCertificate> = Vec::new(), |_| Vec::new();
    }
}

section! {
    /// The key pair of the first certificate: both keys or none.
    [listener.tls]
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct OwnCertificate {
        /// PEM file with the certificate, then the intermediate ones. Left out: the first of `certificates` is the
        /// default one.
        #[no_default(optional)]
        cert: Option<PathBuf> = "/etc/lameduck/tls/fullchain.pem", maybe_file();
        /// PEM file with its private key, not encrypted. Left out together with `cert`.
        #[no_default(optional)]
        key: Option<PathBuf> = "/etc/lameduck/tls/privkey.pem", maybe_file();
    }
}

section! {
    /// Further certificates; a client gets the one that has the name it asks for (SNI), else the first.
    [[listener.tls.certificates]]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CertificateFiles {
        /// As in `[listener.tls]`.
        #[no_default(needed)]
        cert: PathBuf = "/etc/lameduck/tls/fullchain.pem", file();
        /// As in `[listener.tls]`.
        #[no_default(needed)]
        key: PathBuf = "/etc/lameduck/tls/privkey.pem", file();
    }
}

words! {
    /// Whether clients show certificates.
    pub enum ClientAuth {
        /// Clients aren't asked for one.
        Off = "off",
        /// Clients may show one, which must be valid.
        Optional = "optional",
        /// Clients without a valid certificate are refused.
        Required = "required",
    }
}

words! {
    /// Versions of TLS.
    pub enum TlsVersion {
        /// RFC 5246.
        Tls12 = "1.2",
        /// RFC 8446.
        Tls13 = "1.3",
    }
}

/// The key pair of the section itself, followed by those of `[[listener.tls.certificates]]`.
impl KeyGroup for Vec<CertificateFiles> {
    fn keys() -> &'static [KeySchema] {
        OwnCertificate::section().keys
    }

    fn unwritten() -> Self {
        Vec::new()
    }

    fn read(table: &ConfigTable<'_>, found: &mut ConfigFindings) -> Self {
        let own = OwnCertificate::read(table, found);
        let listed = Vec::<CertificateFiles>::read_below(table, "certificates", found);
        let mut certificates = Vec::new();
        match (own.cert, own.key) {
            (Some(cert), Some(key)) => certificates.push(CertificateFiles { cert, key }),
            // If there are no other certificates either, the listener's own check reports that.
            (None, None) => {}
            (cert, _) => {
                let missing = if cert.is_some() { "key" } else { "cert" };
                if table.is_written() && found.sound(&[&table.at(missing)]) {
                    found.error(
                        found.place(&table.path),
                        format!("[listener.tls] has no `{missing}`"),
                        "write both: `cert = \"fullchain.pem\"` and `key = \"privkey.pem\"`",
                    );
                }
            }
        }
        certificates.extend(listed);
        certificates
    }

    fn entries(&self) -> TomlEntries {
        self.first()
            .map(CertificateFiles::entries)
            .unwrap_or_default()
    }

    fn print_below(&self, out: &mut PrintedSections) {
        for more in self.iter().skip(1) {
            more.print(PrintExtent::Whole, out);
        }
    }
}

/// Returns the form of a file that must be given once the key is written.
pub(super) fn file() -> CustomForm<PathBuf> {
    custom("path", read_file, |path| {
        print::text(&path.display().to_string())
    })
    .public()
}

fn read_file(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<PathBuf> {
    let name = key.name;
    path_of(name, value, key.base)?.ok_or_else(|| {
        let remedy = format!(
            "write the path of a PEM file, such as `{name} = \"/etc/lameduck/tls/{name}.pem\"`"
        );
        wrong(name, "\"\"", "it names no file", remedy)
    })
}

/// Returns the form of a file that may be left out, but not be given as an empty text.
fn maybe_file() -> CustomForm<Option<PathBuf>> {
    custom(
        "path",
        |key, value| read_file(key, value).map(Some),
        print::path,
    )
    .public()
}

/// Returns the form of a TLS version; old versions are refused with a message of their own.
fn version() -> CustomForm<TlsVersion> {
    let print = |version: &TlsVersion| TlsVersion::form().print(version);
    custom("\"1.2\" or \"1.3\"", read_version, print).public()
}

fn read_version(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<TlsVersion> {
    if let DeValue::String(text) = value
        && ["1.0", "1.1"].contains(&text.as_ref())
    {
        return Err(wrong(
            key.name,
            quoted(text),
            "TLS 1.0 and 1.1 are broken, and not spoken (RFC 8996)",
            format!("write `{} = \"1.2\"`", key.name),
        ));
    }
    TlsVersion::form().read(key, value)
}
