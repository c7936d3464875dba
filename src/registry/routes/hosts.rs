//! Map from hosts to values, looked up label by label, at a cost that does not depend on the number of hosts.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Longest host that is looked up; DNS names have at most 253 bytes.
pub(super) const MAX_HOST: usize = 255;

/// A map with a value for each host.
#[derive(Debug, Clone, Default)]
pub(super) struct HostMap<V> {
    exact: Map<V>,
    /// Keyed by the part after the asterisk: `.example.org`.
    wildcard: Map<V>,
    /// Value for any host.
    pub(super) any: V,
}

impl<V: Default> HostMap<V> {
    /// Returns the entry of a host as written in the configuration; `None`: any host.
    pub(super) fn entry(&mut self, host: Option<&str>) -> &mut V {
        let host = host.map(str::to_ascii_lowercase);
        match host.as_deref() {
            None | Some("" | "*") => &mut self.any,
            Some(host) => match host.strip_prefix('*') {
                Some(suffix) => self.wildcard.entry(suffix.as_bytes().into()).or_default(),
                None => self.exact.entry(host.as_bytes().into()).or_default(),
            },
        }
    }

    /// Returns all values.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let named = self.exact.values_mut().chain(self.wildcard.values_mut());
        named.chain([&mut self.any])
    }
}

impl<V> HostMap<V> {
    /// Whether the map has no host by name.
    pub(super) fn is_nameless(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// Returns the values for a host in lower case, from the most specific on: the host itself, then its wildcards
    /// label by label. The value for any host is not included.
    pub(super) fn named<'a>(&'a self, host: &'a [u8]) -> impl Iterator<Item = &'a V> {
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

/// Converts a request's host to the form for lookup, in `lower`: lower case, without a trailing dot. `None`: the host
/// is too long to be in the map.
#[inline]
pub(super) fn lower_host<'a>(host: &[u8], lower: &'a mut [u8; MAX_HOST]) -> Option<&'a [u8]> {
    let host = host.strip_suffix(b".").unwrap_or(host);
    let lower = lower.get_mut(..host.len())?;
    lower.copy_from_slice(host);
    lower.make_ascii_lowercase();
    Some(lower)
}

pub(super) type Map<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<Fnv>>;

/// FNV-1a. The keys come from the configuration, so clients can't cause collisions in the table, and for keys this
/// short it is several times faster than the standard hasher.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fnv(u64);

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
