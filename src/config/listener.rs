//! `[[listener]]`: how a redirect is written, and checks of a listener's values in combination.

use super::forms::KeyContext;
use super::reader::{ConfigFindings, ValueError, describe};
use super::section_traits::ConfigSection as _;
use super::sections::{ClientAuth, ListenerConfig};
use super::values::{self, ValueResult};
use toml::de::DeValue;

/// Reads `true`, `false` or a port.
pub(super) fn read_redirect(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<u16>> {
    let key = key.name;
    match value {
        DeValue::Boolean(false) => Ok(None),
        DeValue::Boolean(true) => Ok(Some(443)),
        DeValue::Integer(_) => {
            let port = values::integer(key, value, &(1..=65535))?;
            Ok(u16::try_from(port).ok())
        }
        other => Err(ValueError::new(
            format!(
                "`{key}` is {}, but must be true, false or a port",
                describe(other)
            ),
            format!("write `{key} = true` for port 443, or the port without quotes"),
        )),
    }
}

/// Prints a redirect as it is read.
pub(super) fn print_redirect(port: &Option<u16>) -> String {
    match port {
        None => "false".into(),
        Some(443) => "true".into(),
        Some(port) => port.to_string(),
    }
}

/// Checks a listener's own values in combination.
pub(super) fn check(path: &str, listener: &ListenerConfig, f: &mut ConfigFindings) {
    let at = |key: &str| format!("{path}.{key}");
    if listener.address.tcp().is_some() {
        let default = ListenerConfig::unwritten();
        let only_unix = [
            ("mode", listener.mode != default.mode),
            ("group", listener.group.is_some()),
        ];
        let is_sound = f.sound(&[&at("address")]);
        for (key, _) in only_unix
            .into_iter()
            .filter(|(_, is_set)| *is_set && is_sound)
        {
            f.error(
                f.place(&at(key)),
                format!(
                    "`{key}` is for a unix socket, and {} is none",
                    listener.address
                ),
                "remove it, or write an address such as `unix:/run/lameduck/http.sock`",
            );
        }
    } else if listener.mode & 0o200 == 0 {
        f.error(
            f.place(&at("mode")),
            format!(
                "`mode = \"{:04o}\"`: not even lameduck's own user could connect",
                listener.mode
            ),
            "write \"0660\" (owner and group), or \"0666\" (everybody on this machine)",
        );
    }
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
        && listener.address.tcp().is_some_and(|own| own.port() == port)
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
    let (cert, key) = (at("tls.cert"), at("tls.key"));
    if settings.certificates.is_empty()
        && listener.acme.is_none()
        // If only one of the two is written, that was reported already.
        && !f.written(&cert)
        && !f.written(&key)
        && f.sound(&[&cert, &at("tls.certificates")])
    {
        f.error(
            f.place(&tls),
            "[listener.tls] has no `cert`",
            "write both: `cert = \"fullchain.pem\"` and `key = \"privkey.pem\"`",
        );
    }
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
