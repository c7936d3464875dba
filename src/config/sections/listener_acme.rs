//! `[listener.acme]` and `[[listener.acme.certificates]]`.

use super::Config;
use crate::config::ListenAddress;
use crate::config::declare::{section, words};
use crate::config::forms::{
    EmptyIsNone, FilePath, KeyContext, ListForm, NamedForm, custom, integer, list,
};
use crate::config::print;
use crate::config::reader::ConfigFindings;
use crate::config::values::{ValueResult, quoted, text, wrong};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// Most names of one certificate: no public authority accepts more.
const MOST_NAMES: usize = 100;

/// Directories of authorities that have a short name.
const AUTHORITIES: [(&str, &str); 2] = [
    (
        "letsencrypt",
        "https://acme-v02.api.letsencrypt.org/directory",
    ),
    (
        "staging",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
    ),
];

section! {
    /// Certificates that are ordered and renewed by themselves ([ACME](acme.md)). Who writes it agrees to the authority's
    /// terms of service.
    [listener.acme]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AcmeConfig {
        /// The names of a certificate, the first one its own name. `[]`: only those of `certificates`.
        domains: Vec<String> = [], domain_list();
        /// Where the authority may write to. `""`: nowhere.
        email: Option<String> = "", EmptyIsNone("ops@example.org", custom("mail address", read_email, |email| print::text(email)).public());
        /// The authority: `"letsencrypt"`, `"staging"` (Let's Encrypt's, for trying things out: nobody trusts what it
        /// signs), or its directory's URL.
        directory: String = "letsencrypt", custom("\"letsencrypt\", \"staging\" or URL", read_directory, |url| print::text(url)).public();
        /// How the authority sees that the names are ours: `"http-01"` asks on port 80, `"tls-alpn-01"` on port 443. With
        /// `"auto"`, what the listeners allow, and after a failure the other one.
        challenge: AcmeChallenge = "auto";
        /// The authority's profile, such as `"shortlived"` for certificates of six days. `""`: its default.
        profile: Option<String> = "", EmptyIsNone("shortlived", custom("text", read_profile, |profile| print::text(profile)).public());
        /// Where account, keys and certificates are kept; proxies that share clients share it. `""`: in the server's own
        /// `state_dir`, below `acme`.
        state_dir: Option<PathBuf> = "", NamedForm("directory", FilePath);
        /// PEM file with the certificates of those who sign the authority's own one. `""`: those of the system.
        ca: Option<PathBuf> = "", FilePath;
        /// The key's name that a commercial authority has given out for the account (external account binding). `""`: none.
        eab_kid: Option<String> = "", EmptyIsNone("kid-1", custom("text", read_kid, |kid| print::text(kid)).public());
        /// That key, in base64url as the authority shows it.
        eab_key: Option<String> = "", EmptyIsNone("${EAB_KEY}", custom("text", read_eab_key, |key| print::text(key)));
        /// Orders in any hour, over all certificates of this authority and across restarts. Further ones wait.
        orders_per_hour: u32 = 50, integer(1..=10_000).told();
    }
    sections {
        /// `[[listener.acme.certificates]]`.
        certificates: Vec<AcmeCertificate>;
    }
}

section! {
    /// Further certificates from the same authority.
    [[listener.acme.certificates]]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AcmeCertificate {
        /// As in `[listener.acme]`.
        #[no_default(needed)]
        domains: Vec<String> = ["shop.example.org"], domain_list();
    }
}

words! {
    /// How the authority validates names.
    pub enum AcmeChallenge {
        /// According to the listeners.
        Auto = "auto",
        /// By a file on port 80.
        Http01 = "http-01",
        /// By a certificate on port 443.
        TlsAlpn01 = "tls-alpn-01",
    }
}

/// A certificate that lameduck itself orders and renews, with its file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ManagedCertificate {
    /// The names that it should have, in the order of the configuration.
    pub names: Vec<String>,
    /// File with the chain and the key, which is replaced as a whole. It may not exist yet.
    pub file: PathBuf,
}

impl AcmeConfig {
    /// Returns the URL of the authority's directory.
    pub fn directory_url(&self) -> &str {
        let known = AUTHORITIES.iter().find(|(word, _)| *word == self.directory);
        known.map_or(&self.directory, |(_, url)| url)
    }

    /// Returns the lists of names, one for each certificate.
    pub fn name_lists(&self) -> impl Iterator<Item = &Vec<String>> {
        let own = Some(&self.domains).filter(|names| !names.is_empty());
        own.into_iter()
            .chain(self.certificates.iter().map(|more| &more.domains))
    }

    /// Returns the directory of this authority's account; `None`: no directory is configured.
    pub fn account_dir(&self, server_dir: Option<&Path>) -> Option<PathBuf> {
        let dir = match (&self.state_dir, server_dir) {
            (Some(own), _) => own.clone(),
            (None, Some(server)) => server.join("acme"),
            (None, None) => return None,
        };
        Some(dir.join(directory_name(self.directory_url())))
    }

    /// Returns the certificates with their files; none if no directory is configured.
    pub fn managed(&self, server_dir: Option<&Path>) -> Vec<ManagedCertificate> {
        let Some(dir) = self.account_dir(server_dir) else {
            return Vec::new();
        };
        let certificate = |names: &Vec<String>| {
            Some(ManagedCertificate {
                file: dir.join(format!("{}.pem", names.first()?)),
                names: names.clone(),
            })
        };
        self.name_lists().filter_map(certificate).collect()
    }

    /// Returns the settings that must be equal for the same account.
    fn account(&self) -> impl PartialEq {
        (
            self.email.clone(),
            self.ca.clone(),
            self.eab_kid.clone(),
            self.eab_key.clone(),
            self.orders_per_hour,
        )
    }
}

/// Converts a URL to the name of a directory.
fn directory_name(url: &str) -> String {
    let plain = url.split_once("://").map_or(url, |(_, rest)| rest);
    let fits = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    let name = plain.trim_end_matches('/').chars();
    let name = name.map(|letter| if fits(letter) { letter } else { '-' });
    let name: String = name.take(200).collect();
    match name.trim_start_matches('.') {
        "" => "authority".to_owned(),
        name => name.to_owned(),
    }
}

fn domain_list() -> ListForm<impl crate::config::forms::ValueForm<String>> {
    let item = custom("host name", read_domain, |name| print::text(name)).public();
    list(
        "list of host names",
        "[\"example.org\", \"www.example.org\"]",
        item,
    )
}

fn read_domain(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let name = text(key.name, value, "example.org")?;
    let no = |why: &str, remedy: &str| Err(wrong(key.name, quoted(name), why, remedy));
    if name.contains('*') {
        return no(
            "a wildcard is only signed for who changes the DNS zone (DNS-01), which lameduck does not do",
            "list the names one by one, or let an ACME client with access to the zone (certbot, lego) write the files of `tls`",
        );
    }
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() {
        return no(
            "it is an IP address, and certificates are ordered for host names",
            "write the host name that leads there, or let another ACME client write the files of `tls`",
        );
    }
    if name.contains("://") || name.contains('/') || name.contains(':') {
        return no(
            "it is more than a host name",
            "write the name alone, without scheme, port and path, such as \"example.org\"",
        );
    }
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if lower.is_empty() || lower.len() > 253 || !lower.split('.').all(is_label) {
        return no(
            "it is not a host name",
            "write it as DNS has it, such as \"example.org\" (other letters in Punycode: \"xn--…\")",
        );
    }
    Ok(lower)
}

fn read_email(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let email = text(key.name, value, "ops@example.org")?;
    let plain = email.strip_prefix("mailto:").unwrap_or(email);
    let fits = |byte: u8| byte.is_ascii_graphic() && !b",?<>\"".contains(&byte);
    match plain.split_once('@') {
        Some((user, host)) if !user.is_empty() && host.contains('.') && plain.bytes().all(fits) => {
            Ok(plain.to_owned())
        }
        _ => Err(wrong(
            key.name,
            quoted(email),
            "it is not a mail address",
            "write one address, such as \"ops@example.org\"",
        )),
    }
}

fn read_directory(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let directory = text(key.name, value, "letsencrypt")?;
    if AUTHORITIES.iter().any(|(word, _)| *word == directory) {
        return Ok(directory.to_owned());
    }
    let url = directory.parse::<http::Uri>().ok();
    let has_host = url.as_ref().is_some_and(|url| url.host().is_some());
    match url.as_ref().and_then(|url| url.scheme_str()) {
        Some("https") if has_host => Ok(directory.to_owned()),
        Some("http") => Err(wrong(
            key.name,
            quoted(directory),
            "an authority is asked over HTTPS alone (RFC 8555, section 6.1)",
            "write its URL with https://, and its own authority's certificate as `ca` if the system does not know it",
        )),
        _ => Err(wrong(
            key.name,
            quoted(directory),
            "it is neither a known authority nor a URL",
            "write \"letsencrypt\", \"staging\", or the URL of a directory such as \"https://ca.internal/acme/directory\"",
        )),
    }
}

fn read_word(key: &KeyContext<'_>, value: &DeValue<'_>, example: &str) -> ValueResult<String> {
    let word = text(key.name, value, example)?;
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
    match !word.is_empty() && word.len() <= 256 && word.bytes().all(fits) {
        true => Ok(word.to_owned()),
        false => Err(wrong(
            key.name,
            quoted(word),
            "it is not a name without blanks",
            format!("write it as the authority shows it, such as \"{example}\""),
        )),
    }
}

fn read_profile(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    read_word(key, value, "shortlived")
}

fn read_kid(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    read_word(key, value, "kid-1")
}

fn read_eab_key(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let secret = text(key.name, value, "${EAB_KEY}")?.trim_end_matches('=');
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match secret.len() >= 8 && secret.len() % 4 != 1 && secret.bytes().all(fits) {
        true => Ok(secret.to_owned()),
        false => Err(wrong(
            key.name,
            format!("a text of {} bytes", secret.len()),
            "it is not a key in base64url",
            "write it as the authority shows it (letters, digits, `-` and `_`), best as \"${EAB_KEY}\" from the environment",
        )),
    }
}

/// Checks all `[listener.acme]` in combination with each other and with the listeners.
pub(in crate::config) fn validate(config: &Config, f: &mut ConfigFindings) {
    let server_dir = config.server.state_dir.as_deref();
    let mut files: HashMap<PathBuf, (&[String], String)> = HashMap::new();
    let mut accounts: HashMap<PathBuf, (&AcmeConfig, String)> = HashMap::new();
    for (i, listener) in config.listeners.iter().enumerate() {
        let Some(acme) = &listener.acme else {
            continue;
        };
        let path = format!("listener[{i}].acme");
        check_names(&path, acme, f);
        check_eab(&path, acme, f);
        check_challenge(&path, acme, &listener.address, config, f);
        let Some(dir) = acme.account_dir(server_dir) else {
            if f.sound(&["server.state_dir", &format!("{path}.state_dir")]) {
                f.error(
                    f.place(&path),
                    "[listener.acme] has no place for account, keys and certificates: each start would order new ones",
                    "write `state_dir = \"/var/lib/lameduck\"` in [server]",
                );
            }
            continue;
        };
        match accounts.get(&dir) {
            Some((other, first)) if other.account() != acme.account() => {
                let also = f.place(first);
                f.error(
                    f.place(&path),
                    "two listeners use one account, and `email`, `ca`, `eab_kid`, `eab_key` or `orders_per_hour` differ",
                    "write the same values in both, or another `state_dir`",
                )
                .also(also, "the other one");
            }
            Some(_) => {}
            None => drop(accounts.insert(dir, (acme, path.clone()))),
        }
        for managed in acme.managed(server_dir) {
            let names = acme.name_lists().find(|names| **names == managed.names);
            let names = names.map_or(&[][..], |names| names);
            match files.get(&managed.file) {
                Some((other, first)) if *other != names => {
                    let also = f.place(first);
                    f.error(
                        f.place(&path),
                        format!(
                            "two different certificates begin with {}: each would replace the other",
                            names.first().map_or("", String::as_str)
                        ),
                        "write the same `domains` in both, or begin one of them with another name",
                    )
                    .also(also, "the other one");
                }
                Some(_) => {}
                None => drop(files.insert(managed.file, (names, path.clone()))),
            }
        }
    }
}

fn check_names(path: &str, acme: &AcmeConfig, f: &mut ConfigFindings) {
    let at = format!("{path}.domains");
    if acme.name_lists().next().is_none() && f.sound(&[&at, &format!("{path}.certificates")]) {
        f.error(
            f.place(path),
            "[listener.acme] has no `domains`: there is nothing to order",
            "write the names that lead here: `domains = [\"example.org\", \"www.example.org\"]`",
        );
    }
    let more = acme.certificates.iter().enumerate();
    let more = more.map(|(n, more)| (format!("{path}.certificates[{n}].domains"), &more.domains));
    let own = std::iter::once((at, &acme.domains));
    for (at, names) in own.chain(more) {
        if !f.sound(&[&at]) {
            continue;
        }
        if names.is_empty() && at.contains("certificates") {
            f.error(
                f.place(&at),
                "`domains` is empty: a certificate needs a name",
                "write the names that lead here, or remove the section",
            );
        }
        if names.len() > MOST_NAMES {
            f.error(
                f.place(&at),
                format!(
                    "`domains` has {} names, and authorities take {MOST_NAMES} in one certificate",
                    names.len()
                ),
                "write some of them in [[listener.acme.certificates]]",
            );
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
            f.error(
                f.place(&at),
                format!("`domains` has {twice} twice"),
                "remove one of them",
            );
        }
    }
}

fn check_eab(path: &str, acme: &AcmeConfig, f: &mut ConfigFindings) {
    let (kid, key) = (format!("{path}.eab_kid"), format!("{path}.eab_key"));
    if acme.eab_kid.is_some() == acme.eab_key.is_some() || !f.sound(&[&kid, &key]) {
        return;
    }
    let (at, is, lacks) = match acme.eab_kid {
        Some(_) => (kid, "eab_kid", "eab_key"),
        None => (key, "eab_key", "eab_kid"),
    };
    f.error(
        f.place(&at),
        format!("`{is}` without `{lacks}`: an authority gives out both together"),
        format!("add `{lacks}`, or remove `{is}`"),
    );
}

/// Checks that the authority can reach this host for the challenge.
fn check_challenge(
    path: &str,
    acme: &AcmeConfig,
    address: &ListenAddress,
    config: &Config,
    f: &mut ConfigFindings,
) {
    let at = format!("{path}.challenge");
    if !f.sound(&[&at]) {
        return;
    }
    let plain = config.listeners.iter();
    let mut plain = plain.filter(|listener| listener.tls.is_none()).peekable();
    let has_plain = plain.peek().is_some();
    let port = |address: &ListenAddress| address.tcp().map(|address| address.port());
    // In front of a unix socket there is a proxy, which has ports of its own.
    let is_80 = plain.any(|listener| port(&listener.address).is_none_or(|port| port == 80));
    let is_443 = port(address).is_none_or(|port| port == 443);
    match acme.challenge {
        AcmeChallenge::Http01 if !has_plain => {
            f.error(
                f.place(&at),
                "`challenge = \"http-01\"` without a listener that has no TLS: nobody would answer the authority",
                "add a [[listener]] with `address = \"0.0.0.0:80\"` and `redirect_https = true`, or write \"tls-alpn-01\"",
            );
        }
        AcmeChallenge::Http01 if !is_80 => {
            f.warning(
                f.place(&at),
                "`challenge = \"http-01\"`: the authority asks on port 80, where no listener is",
                "add a [[listener]] with `address = \"0.0.0.0:80\"`, unless something forwards that port to one of them",
            );
        }
        AcmeChallenge::TlsAlpn01 if !is_443 => {
            f.warning(
                f.place(&at),
                format!("`challenge = \"tls-alpn-01\"`: the authority asks on port 443, and this listener is at {address}"),
                "listen on port 443, unless something forwards that port here as it comes, TLS and all",
            );
        }
        AcmeChallenge::Auto if !is_443 && !is_80 => {
            f.warning(
                f.place(path),
                format!("the authority asks on port 443 or 80; this listener is at {address}, and none is on port 80"),
                "listen on one of these ports, unless something forwards it here",
            );
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_name_is_a_plain_name_whatever_the_url_is() {
        for (url, name) in [
            (AUTHORITIES[0].1, "acme-v02.api.letsencrypt.org-directory"),
            (
                "https://ca:9000/acme/x/directory/",
                "ca-9000-acme-x-directory",
            ),
            ("https://../..", "-.."),
            ("https://", "authority"),
        ] {
            let made = directory_name(url);
            assert!(!made.contains('/') && made != ".." && made != ".");
            assert_eq!(made, name);
        }
    }
}
