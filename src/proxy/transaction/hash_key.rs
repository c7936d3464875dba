//! The hash key of a request: the value that its pool's `hash_on` names.

use std::io::Write as _;

use super::Transaction;
use super::received_request::ReceivedRequest;
use crate::config::HashKey;
use crate::core::balance::{Balancer, ketama};
use crate::core::split;
use crate::registry::routes::RoutedRequest as _;

/// Size of the buffer for an address as text, in bytes; no address is longer.
const ADDRESS: usize = 64;

impl Transaction<'_> {
    /// Computes the request's hash key, if its pool's balancer uses one.
    #[inline]
    pub(super) fn note_hash_key(&mut self) {
        if self.pool.balancer.hashes() {
            // A request without the hashed value gets a random key, which is kept for its further attempts while the
            // pool doesn't change.
            let key = self.find_hash_key().unwrap_or_else(|| fastrand::u64(..));
            self.excluded.set_hash_key(key);
        }
    }

    #[inline(never)]
    fn find_hash_key(&self) -> Option<u64> {
        let request = ReceivedRequest::new(&self.config, self.client, self.head);
        let buffer = self.client.buffer.bytes();
        let is_nginx = matches!(self.pool.balancer, Balancer::KetamaNginx(_));
        let mut key = None;
        let mut note = |value: &[u8]| {
            if !value.is_empty() {
                key = Some(match is_nginx {
                    true => ketama::hash(value).into(),
                    false => split::hash(value),
                });
            }
            !value.is_empty()
        };
        match &self.pool.config.hash_on {
            HashKey::Client => {
                let mut text = [0; ADDRESS];
                let mut rest = &mut text[..];
                let written = request.client().map(|client| write!(rest, "{client}"));
                let left = rest.len();
                matches!(written, Some(Ok(()))) && note(&text[..ADDRESS - left])
            }
            HashKey::Uri => note(self.head.origin.of(buffer)),
            HashKey::Path => note(request.path()),
            HashKey::Header(name) => request.has_field(name, &mut note),
            HashKey::Cookie(name) => request.has_cookie(name, &mut note),
        };
        key
    }
}
