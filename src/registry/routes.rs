//! Which pool a request is for, from its host and path, at a cost that does not depend on how many routes
//! there are.
//!
//! The rules, for people in `docs/configuration.md`:
//! 1. Hosts are compared without case and without a trailing dot. An exact host comes before a wildcard, a
//!    longer wildcard before a shorter one, and any of them before routes without a host.
//! 2. Of the most specific host that has a matching prefix, the longest prefix wins. Prefixes match whole
//!    segments.
//! 3. Paths are compared as the client sent them, with case, and forwarded untouched. Only two spellings that
//!    mean the same are taken for the same: runs of slashes count as one slash, and a percent-encoded
//!    unreserved character is that character (RFC 3986, section 6.2.2.2). Nothing else is decoded.
//! 4. A path with a dot segment (`.` or `..`, however it is encoded) matches no route where the host's routes
//!    differ by path: an app would resolve it to a path that another route is for. Clients resolve them
//!    before they send. Where the host's only prefix is `/` there is nothing to confuse, and it matches.

use crate::config::{MAX_PREFIX, Route};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Longest host that is looked up; DNS names have at most 253 bytes.
const MAX_HOST: usize = 255;

/// All routes, ready for lookup. Built once for each configuration.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    exact: Map<Prefixes>,
    /// Keyed by what follows the asterisk: `.example.org`.
    wildcard: Map<Prefixes>,
    any: Prefixes,
}

/// The routes of one host.
#[derive(Debug, Clone, Default)]
struct Prefixes {
    /// `/`.
    root: Option<usize>,
    /// The others, without a trailing slash.
    longer: Map<usize>,
    /// Length of the longest of those.
    longest: usize,
}

type Map<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<Fnv>>;

/// FNV-1a. The keys come from the configuration, so nobody can aim collisions at the table, and for keys this
/// short it is several times faster than the standard hasher.
#[derive(Debug, Clone, Copy)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl RouteTable {
    /// Build the table. `pools` are the names of the pools in the order of their indices. A route to a pool
    /// that is not among them is left out (a checked configuration has none), and of two equal routes the
    /// first counts. Without any route, a single pool gets everything.
    pub fn new(routes: &[Route], pools: &[impl AsRef<str>]) -> Self {
        let mut table = RouteTable::default();
        if routes.is_empty() && pools.len() == 1 {
            table.any.root = Some(0);
        }
        for route in routes {
            let Some(pool) = pools.iter().position(|name| name.as_ref() == route.pool) else {
                continue;
            };
            let host = route.host.as_deref().map(str::to_ascii_lowercase);
            let prefixes = match host.as_deref() {
                None | Some("" | "*") => &mut table.any,
                Some(host) => match host.strip_prefix('*') {
                    Some(suffix) => table.wildcard.entry(suffix.as_bytes().into()).or_default(),
                    None => table.exact.entry(host.as_bytes().into()).or_default(),
                },
            };
            prefixes.insert(route.path_prefix.as_bytes(), pool);
        }
        table
    }

    /// The index of the pool for a request, `None` if no route matches. `host` is in any case and without a
    /// port (an IPv6 address in brackets), empty if there is none; `path` is as on the request line, a query
    /// is ignored. Allocates nothing.
    pub fn lookup(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        let mut path = Path {
            raw: path,
            normal: None,
        };
        if !(self.exact.is_empty() && self.wildcard.is_empty()) {
            let host = host.strip_suffix(b".").unwrap_or(host);
            let mut lower = [0u8; MAX_HOST];
            if let Some(lower) = lower.get_mut(..host.len()) {
                lower.copy_from_slice(host);
                lower.make_ascii_lowercase();
                for prefixes in self.hosts(lower) {
                    match prefixes.find(&mut path) {
                        RouteMatch::Pool(pool) => return Some(pool),
                        RouteMatch::Ambiguous => return None,
                        RouteMatch::Nothing => {}
                    }
                }
            }
        }
        match self.any.find(&mut path) {
            RouteMatch::Pool(pool) => Some(pool),
            RouteMatch::Ambiguous | RouteMatch::Nothing => None,
        }
    }

    /// The entries for a host, most specific first: itself, then its wildcards label by label.
    fn hosts<'a>(&'a self, host: &'a [u8]) -> impl Iterator<Item = &'a Prefixes> {
        let wildcards = (!self.wildcard.is_empty())
            .then(|| memchr::memchr_iter(b'.', host))
            .into_iter()
            .flatten()
            // A wildcard needs at least one label before it.
            .filter(|dot| *dot > 0)
            .filter_map(|dot| self.wildcard.get(&host[dot..]));
        self.exact.get(host).into_iter().chain(wildcards)
    }
}

enum RouteMatch {
    Pool(usize),
    Nothing,
    /// A dot segment where the pool depends on the path.
    Ambiguous,
}

impl Prefixes {
    fn insert(&mut self, prefix: &[u8], pool: usize) {
        let normal = Normal::new(prefix);
        let key = normal.text();
        let key = key.strip_suffix(b"/").unwrap_or(key);
        if key.is_empty() {
            self.root.get_or_insert(pool);
        } else {
            self.longest = self.longest.max(key.len());
            self.longer.entry(key.into()).or_insert(pool);
        }
    }

    fn find(&self, path: &mut Path<'_>) -> RouteMatch {
        if !self.longer.is_empty() {
            let path = path.normal();
            if path.dotted {
                return RouteMatch::Ambiguous;
            }
            let text = path.text();
            // From the longest whole-segment prefix that any route could have, down.
            let mut end = text.len().min(self.longest + 1);
            if text.len() <= self.longest
                && let Some(pool) = self.longer.get(text)
            {
                return RouteMatch::Pool(*pool);
            }
            while let Some(slash) = memchr::memrchr(b'/', &text[..end]).filter(|slash| *slash > 0) {
                if let Some(pool) = self.longer.get(&text[..slash]) {
                    return RouteMatch::Pool(*pool);
                }
                end = slash;
            }
        }
        self.root.map_or(RouteMatch::Nothing, RouteMatch::Pool)
    }
}

/// A request's path. Normalised at most once, and only where a route looks further than `/`.
struct Path<'a> {
    raw: &'a [u8],
    normal: Option<Normal>,
}

impl Path<'_> {
    fn normal(&mut self) -> &Normal {
        self.normal.get_or_insert_with(|| Normal::new(self.raw))
    }
}

/// A path in the form in which it is compared.
struct Normal {
    /// Its beginning: more of it than any prefix is long.
    buffer: [u8; MAX_PREFIX + 2],
    length: usize,
    /// Whether a segment of it is `.` or `..`, or could be taken for that.
    dotted: bool,
}

impl Normal {
    fn new(raw: &[u8]) -> Self {
        let mut path = Normal {
            buffer: [0; MAX_PREFIX + 2],
            length: 0,
            dotted: false,
        };
        // Dots of the segment so far, as long as it has nothing else in it.
        let mut dots = Some(0);
        let (mut i, mut last) = (0, 0u8);
        while i < raw.len() {
            let (byte, encoded) = match (raw[i], hex(raw.get(i + 1..i + 3))) {
                (b'%', Some(byte)) => (byte, true),
                (byte, _) => (byte, false),
            };
            if !encoded && (byte == b'?' || byte == b'#') {
                break;
            }
            // What one app or another takes for the end of a segment, or of a segment's name (`..;x`).
            if matches!(byte, b'/' | b'\\' | b';') {
                path.dotted |= matches!(dots, Some(1 | 2));
                dots = if byte == b';' { None } else { Some(0) };
            } else if byte == b'.' {
                dots = dots.map(|dots| dots + 1);
            } else {
                dots = None;
            }
            if encoded && !unreserved(byte) {
                path.push(b'%');
                path.push(raw[i + 1].to_ascii_uppercase());
                path.push(raw[i + 2].to_ascii_uppercase());
                last = 0;
            } else {
                if !(byte == b'/' && last == b'/') {
                    path.push(byte);
                }
                last = byte;
            }
            i += if encoded { 3 } else { 1 };
        }
        path.dotted |= matches!(dots, Some(1 | 2));
        path
    }

    fn text(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.buffer.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }
}

fn hex(digits: Option<&[u8]>) -> Option<u8> {
    let &[high, low] = digits? else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// RFC 3986, section 2.3.
fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests;
