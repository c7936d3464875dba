//! `[[listener]]` and `[listener.tls]`.

use super::reader::{Findings, Problem, Table, describe};
use super::runtime::*;
use super::schema;
use super::values::{self, Read, choice, quoted, wrong};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::DeValue;

/// The words for whether clients show certificates.
pub(super) const CLIENT_AUTH: [(&str, ClientAuth); 3] = [
    ("off", ClientAuth::Off),
    ("optional", ClientAuth::Optional),
    ("required", ClientAuth::Required),
];

/// The words for versions of TLS.
pub(super) const MIN_VERSION: [(&str, TlsVersion); 2] =
    [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];

/// One listener. Relative paths are taken from `base`.
pub(super) fn listener(t: &Table<'_>, base: &Path, f: &mut Findings) -> Listener {
    let stand_in = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let address = t.require("address", stand_in, f, values::listen);
    let table = t.child("tls", schema::section("listener.tls"), f);
    let written = table.is_written();
    let tls = tls(&table, base, f);
    let tls = written.then_some(tls);
    Listener {
        reuse_port: t.boolean("reuse_port", false, f),
        http2: t.boolean("http2", tls.is_some(), f),
        proxy_protocol: t.boolean("proxy_protocol", false, f),
        redirect_https: t.read("redirect_https", None, f, redirect),
        hsts: t.duration("hsts", Duration::ZERO, f),
        tls,
        ..Listener::on(address)
    }
}

fn redirect(key: &str, value: &DeValue<'_>) -> Read<Option<u16>> {
    match value {
        DeValue::Boolean(false) => Ok(None),
        DeValue::Boolean(true) => Ok(Some(443)),
        DeValue::Integer(_) => {
            let port = values::integer(key, value, &(1..=65535))?;
            Ok(u16::try_from(port).ok())
        }
        other => Err(Problem::new(
            format!(
                "`{key}` is {}, but must be true, false or a port",
                describe(other)
            ),
            format!("write `{key} = true` for port 443, or the port without quotes"),
        )),
    }
}

fn tls(t: &Table<'_>, base: &Path, f: &mut Findings) -> ListenerTls {
    let (cert, key) = (path(t, "cert", base, f), path(t, "key", base, f));
    let mut certificates = Vec::new();
    let listed = t.children(
        "certificates",
        schema::section("listener.tls.certificates"),
        f,
    );
    match (cert, key) {
        (Some(cert), Some(key)) => certificates.push(CertificateFiles { cert, key }),
        (None, None) if !listed.is_empty() => {}
        (cert, _) => {
            let missing = if cert.is_some() { "key" } else { "cert" };
            if t.is_written() && f.sound(&[&t.at(missing)]) {
                f.error(
                    f.place(&t.path),
                    format!("[listener.tls] has no `{missing}`"),
                    "write both: `cert = \"fullchain.pem\"` and `key = \"privkey.pem\"`",
                );
            }
        }
    }
    for table in &listed {
        let [cert, key] = ["cert", "key"]
            .map(|key| table.require(key, PathBuf::new(), f, |key, value| file(key, value, base)));
        certificates.push(CertificateFiles { cert, key });
    }
    ListenerTls {
        certificates,
        client_auth: t.read("client_auth", ClientAuth::Off, f, |key, value| {
            choice(key, value, &CLIENT_AUTH)
        }),
        client_ca: t.path("client_ca", base, f),
        client_crl: t.path("client_crl", base, f),
        min_version: t.read("min_version", TlsVersion::Tls12, f, |key, value| {
            if let DeValue::String(text) = value
                && ["1.0", "1.1"].contains(&text.as_ref())
            {
                return Err(wrong(
                    key,
                    quoted(text),
                    "TLS 1.0 and 1.1 are broken, and not spoken (RFC 8996)",
                    format!("write `{key} = \"1.2\"`"),
                ));
            }
            choice(key, value, &MIN_VERSION)
        }),
    }
}

/// A file that must be named, once the key is written.
fn file(key: &str, value: &DeValue<'_>, base: &Path) -> Read<PathBuf> {
    let none = || {
        wrong(
            key,
            "\"\"",
            "it names no file",
            format!(
                "write the path of a PEM file, such as `{key} = \"/etc/lameduck/tls/{key}.pem\"`"
            ),
        )
    };
    values::path_of(key, value, base)?.ok_or_else(none)
}

fn path(t: &Table<'_>, key: &str, base: &Path, f: &mut Findings) -> Option<PathBuf> {
    t.read(key, None, f, |key, value| file(key, value, base).map(Some))
}

/// How a listener's own values fit together.
pub(super) fn check(path: &str, listener: &Listener, f: &mut Findings) {
    let at = |key: &str| format!("{path}.{key}");
    let (redirect, hsts, tls) = (at("redirect_https"), at("hsts"), at("tls"));
    if listener.redirect_https.is_some() && listener.tls.is_some() && f.sound(&[&redirect, &tls]) {
        let (place, also) = (f.place(&redirect), f.place(&tls));
        f.error(
            place,
            "`redirect_https` on a listener with `tls`: its clients would be sent round and round",
            "write it on the listener without TLS, on port 80",
        )
        .also(also, "this one has TLS");
    }
    if let (Some(port), true) = (listener.redirect_https, listener.tls.is_none())
        && port == listener.address.port()
    {
        f.error(
            f.place(&redirect),
            format!("`redirect_https = {port}` is this listener's own port: its clients would be sent round and round"),
            "write the port of a listener with `tls`",
        );
    }
    if !listener.hsts.is_zero() && listener.tls.is_none() && f.sound(&[&hsts, &tls]) {
        f.error(
            f.place(&hsts),
            "`hsts` on a listener without `tls`: browsers ignore it there (RFC 6797, section 8.1)",
            "write it on the listener with TLS",
        );
    }
    let Some(settings) = &listener.tls else {
        return;
    };
    let (auth, ca) = (at("tls.client_auth"), at("tls.client_ca"));
    match (settings.client_auth, &settings.client_ca) {
        (ClientAuth::Off, Some(_)) if f.sound(&[&auth, &ca]) => {
            f.warning(
                f.place(&ca),
                "`client_ca` without `client_auth`: clients are not asked for a certificate",
                "add `client_auth = \"required\"` or \"optional\"",
            );
        }
        (ClientAuth::Optional | ClientAuth::Required, None) if f.sound(&[&auth, &ca]) => {
            f.error(
                f.place(&auth),
                "`client_auth` needs `client_ca`: nobody's certificate would be good",
                "add `client_ca = \"/etc/lameduck/tls/clients.pem\"`, the certificates of those who sign clients'",
            );
        }
        _ => {}
    }
    let crl = at("tls.client_crl");
    if settings.client_crl.is_some()
        && settings.client_auth == ClientAuth::Off
        && f.sound(&[&auth, &crl])
    {
        f.warning(
            f.place(&crl),
            "`client_crl` without `client_auth`: clients are not asked for a certificate",
            "add `client_auth = \"required\"` or \"optional\", and `client_ca`",
        );
    }
}
