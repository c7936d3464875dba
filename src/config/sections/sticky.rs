//! `[pool.sticky]`.

use crate::config::declare::{section, words};
use crate::config::forms::{EmptyIsNone, FilePath, KeyContext, OrAuto, custom, list, some_time};
use crate::config::print;
use crate::config::reader::ConfigFindings;
use crate::config::values::{ValueResult, quoted, text, wrong};
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// Shortest key, in bytes: a shorter one can be guessed.
pub const SHORTEST_KEY: usize = 16;
/// Most keys.
pub const MOST_KEYS: usize = 16;

section! {
    /// Each client [stays with one backend](sticky.md). Leave the section out and each request goes to the best one.
    [pool.sticky]
    #[derive(Debug, Clone, PartialEq)]
    pub struct StickyConfig {
        /// The name of the cookie.
        cookie: String = "lameduck", custom("token", read_token, |name| print::text(name)).public();
        /// In place of the cookie, for APIs: the response field with the token, which the client sends back as a request
        /// field. `""`: a cookie.
        header: Option<String> = "", EmptyIsNone("X-Session", custom("field name", read_token, |name| print::text(name)).public());
        /// What becomes of sessions while their backend drains: `"move"` sends them to another one at once; with
        /// `"finish"`, they go on there until the drain's deadline is near, and it gets no new ones.
        on_drain: OnDrain = "move";
        /// How long the token is good for; in use, it is renewed when half of that is over. `"0s"`: a day, and the client
        /// forgets the cookie when it is closed.
        max_age: Duration = "1d";
        /// A session without a request for so long is over, as far as drains with `on_drain = "finish"` wait for it.
        idle: Duration = "30m", some_time();
        /// Whether the cookie is sent over HTTPS only. `"auto"`: where the client came over HTTPS.
        secure: Option<bool> = "auto", OrAuto(bool::form());
        /// The cookie's `SameSite`. `"off"`: none is said.
        same_site: SameSite = "lax";
        /// The cookie's `Path`.
        path: String = "/", custom("path", read_path, |path| print::text(path)).public();
        /// The cookie's `Domain`. `""`: the host that answers, alone.
        domain: Option<String> = "", EmptyIsNone("example.org", custom("host name", read_domain, |name| print::text(name)).public());
        /// What tokens are signed with: the first signs, all verify. Proxies that share clients need the same. `[]`: those of
        /// `keys_file`, or a key of this proxy's own, which is kept in `state_dir`.
        keys: Vec<String> = [], list("list of texts", "[\"${STICKY_KEY}\"]", custom("text", read_key, |key| print::text(key)));
        /// File with such keys, one a line, in place of `keys`; read again at each reload. `""`: none.
        keys_file: Option<PathBuf> = "", FilePath;
    }
    state {
        /// The keys in `keys_file`, once they have been read.
        file_keys: Vec<String> = Vec::new(), |_| Vec::new();
        /// Whether the file names a cookie.
        names_cookie: bool = false, |table: &ConfigTable<'_>| table.writes("cookie");
    }
}

words! {
    /// What happens to sessions at a drain.
    pub enum OnDrain {
        /// They move to another backend at once.
        Move = "move",
        /// They continue there while the drain lasts.
        Finish = "finish",
    }
}

words! {
    /// `SameSite` of a cookie.
    pub enum SameSite {
        /// The cookie is sent with requests from the same site, and when a link to it is followed.
        Lax = "lax",
        /// The cookie is sent only with requests from the same site.
        Strict = "strict",
        /// The cookie is sent with all requests; browsers require `Secure` with it.
        None = "none",
        /// The attribute is left out.
        Off = "off",
    }
}

impl StickyConfig {
    /// Returns the configured keys, in order.
    pub fn configured_keys(&self) -> &[String] {
        match self.keys.is_empty() {
            true => &self.file_keys,
            false => &self.keys,
        }
    }
}

fn read_token(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let name = text(key.name, value, key.default.trim_matches('"'))?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(fits) {
        return Err(wrong(
            key.name,
            quoted(name),
            "it is not a name of 1 to 128 letters, digits and `-`, `_`, `.`",
            "write a plain name, such as \"lameduck\"",
        ));
    }
    let lower = name.to_ascii_lowercase();
    let reserved = [
        "cookie",
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "te",
        "upgrade",
        "trailer",
    ];
    if key.name == "header" && (reserved.contains(&&*lower) || lower.starts_with("set-cookie")) {
        return Err(wrong(
            key.name,
            quoted(name),
            "this field has a meaning of its own",
            "write a field that nothing else uses, such as \"X-Session\"",
        ));
    }
    Ok(name.to_owned())
}

fn read_path(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let path = text(key.name, value, "/")?;
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b';' && byte != b',';
    match path.starts_with('/') && path.bytes().all(fits) {
        true => Ok(path.to_owned()),
        false => Err(wrong(
            key.name,
            quoted(path),
            "it is not a path of a cookie",
            "write a path that begins with a slash, such as \"/\"",
        )),
    }
}

fn read_domain(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let name = text(key.name, value, "example.org")?;
    let plain = name.strip_prefix('.').unwrap_or(name);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match !plain.is_empty() && plain.len() <= 253 && plain.bytes().all(fits) {
        true => Ok(plain.to_ascii_lowercase()),
        false => Err(wrong(
            key.name,
            quoted(name),
            "it is not a host name",
            "write the name alone, without scheme and port, such as \"example.org\"",
        )),
    }
}

fn read_key(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let secret = text(key.name, value, "${STICKY_KEY}")?;
    match secret.len() >= SHORTEST_KEY {
        true => Ok(secret.to_owned()),
        false => Err(wrong(
            key.name,
            format!("a key of {} bytes", secret.len()),
            "whoever guesses it can choose the backend",
            "write 16 bytes or more that nobody can guess, such as what `openssl rand -hex 32` prints",
        )),
    }
}

/// Checks `[pool.sticky]` of the pool at this path in combination.
pub(in crate::config) fn validate(pool: &str, sticky: &StickyConfig, f: &mut ConfigFindings) {
    let at = |key: &str| format!("{pool}.sticky.{key}");
    let (keys, file) = (at("keys"), at("keys_file"));
    if !sticky.keys.is_empty() && sticky.keys_file.is_some() && f.sound(&[&keys, &file]) {
        let also = f.place(&keys);
        f.error(
            f.place(&file),
            "`keys` and `keys_file` are both there: only one of them can sign",
            "remove one of them",
        )
        .also(also, "the other one");
    }
    if sticky.keys.len() > MOST_KEYS && f.sound(&[&keys]) {
        f.error(
            f.place(&keys),
            format!(
                "`keys` has {} keys, and {MOST_KEYS} are the most: each token is tried with all",
                sticky.keys.len()
            ),
            "keep the one that signs, and those that signed within `max_age`",
        );
    }
    let (cookie, header) = (at("cookie"), at("header"));
    if sticky.header.is_some() && sticky.names_cookie && f.sound(&[&cookie, &header]) {
        // `check --print` writes the default, too.
        if sticky.cookie != StickyConfig::default().cookie {
            let also = f.place(&cookie);
            f.error(
                f.place(&header),
                "`cookie` and `header` are both there: the token is in one of them",
                "remove one of them",
            )
            .also(also, "the other one");
        }
    }
    let (site, secure) = (at("same_site"), at("secure"));
    if sticky.same_site == SameSite::None
        && sticky.secure == Some(false)
        && f.sound(&[&site, &secure])
    {
        let also = f.place(&secure);
        f.error(
            f.place(&site),
            "`same_site = \"none\"` with `secure = false`: browsers refuse such a cookie",
            "write `secure = true`, or another `same_site`",
        )
        .also(also, "this is why");
    }
    let (age, idle) = (at("max_age"), at("idle"));
    let both_written = f.written(&age) && f.written(&idle);
    if !sticky.max_age.is_zero()
        && sticky.idle > sticky.max_age
        && both_written
        && f.sound(&[&age, &idle])
    {
        f.warning(
            f.place(&idle),
            "`idle` is longer than `max_age`: a session's token is no longer good by then",
            "write a shorter `idle`, or a longer `max_age`",
        );
    }
}
