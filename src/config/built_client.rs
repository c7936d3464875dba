//! A value that other code has built from a section, carried beside it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A TLS client, built from the files of a `[pool.tls]`. The configuration only passes it on, and can tell only
/// whether two of them are equal.
#[derive(Clone)]
pub struct BuiltClient {
    client: Arc<dyn Any + Send + Sync>,
    is_same: fn(&dyn Any, &dyn Any) -> bool,
}

impl BuiltClient {
    /// Wraps `client`.
    pub fn new<C: PartialEq + Send + Sync + 'static>(client: Arc<C>) -> Self {
        Self {
            client,
            is_same: |one, other| {
                let (one, other) = (one.downcast_ref::<C>(), other.downcast_ref::<C>());
                one.is_some() && one == other
            },
        }
    }

    /// Returns the client, if it is a `C`.
    pub fn get<C: Send + Sync + 'static>(&self) -> Option<Arc<C>> {
        self.client.clone().downcast().ok()
    }
}

impl PartialEq for BuiltClient {
    fn eq(&self, other: &Self) -> bool {
        (self.is_same)(&*self.client, &*other.client)
    }
}

impl fmt::Debug for BuiltClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BuiltClient")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_client_equals_another_when_what_it_carries_does() {
        let (one, same) = (
            BuiltClient::new(Arc::new(1_u8)),
            BuiltClient::new(Arc::new(1_u8)),
        );
        assert_eq!(one, same);
        assert_ne!(one, BuiltClient::new(Arc::new(2_u8)));
        assert_ne!(one, BuiltClient::new(Arc::new(1_u16)));
        assert_eq!(one.get::<u8>().as_deref(), Some(&1));
        assert_eq!(one.get::<u16>(), None);
    }
}
