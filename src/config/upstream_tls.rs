//! `[pool.tls]`: checks in combination with its pool, and with the contents of its files.

use super::reader::ConfigFindings;
use super::{Address, PoolConfig, ProxyProtocol};

/// Checks the section, and related keys, in combination with the rest of its pool.
pub(super) fn validate(path: &str, pool: &PoolConfig, f: &mut ConfigFindings) {
    let at = |key: &str| format!("{path}.tls.{key}");
    if pool.upstream.http2 && pool.upstream.proxy_protocol != ProxyProtocol::Off {
        let place = |key: &str| format!("{path}.upstream.{key}");
        let also = f.place(&place("http2"));
        f.error(
            f.place(&place("proxy_protocol")),
            "`proxy_protocol` and `http2 = true` don't go together: HTTP/2 connections carry requests of many clients",
            "remove one of them; `X-Forwarded-For` says who a request is from",
        )
        .also(also, "here");
    }
    let Some(tls) = &pool.tls else {
        return;
    };
    if !tls.verify {
        f.warning(
            f.place(&at("verify")),
            format!(
                "`verify = false`: the certificates of pool \"{}\" are not verified: whoever gets between can read and change everything",
                pool.name
            ),
            "remove it, and name the file of the authority that signs them with `ca`",
        );
    }
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        let has = |key| match key {
            "cert" => tls.cert.is_some(),
            _ => tls.key.is_some(),
        };
        if has(one) && !has(other) && f.sound(&[&at(one), &at(other)]) {
            f.error(
                f.place(&at(one)),
                format!(
                    "`{one}` has no `{other}` beside it: it takes both to show who lameduck is"
                ),
                format!("add `{other} = \"FILE\"`"),
            );
        }
    }
    let nameless = pool
        .backends
        .iter()
        .position(|backend| matches!(backend.address, Address::Unix(_)));
    if let Some(index) = nameless
        && tls.verify
        && tls.server_name.is_none()
        && f.sound(&[&at("server_name")])
    {
        f.error(
            f.place(&format!("{path}.backend[{index}].address")),
            "a unix socket has no name that its certificate could be verified by",
            "write `server_name` in [pool.tls]: the name in the certificate",
        );
    }
}
