//! Records of a certificate's orders, and of all orders of an account. They are on the disk before the authority is
//! asked, so that a proxy that crashes again and again does not order more often than another.

use std::io;

use serde::{Deserialize, Serialize};

use super::store::AccountStore;
use crate::core::renewal::ORDER_PERIOD;

/// File with the orders of the account.
const ORDERS: &str = "orders.json";

/// Record of one certificate's orders; deleted once the certificate is issued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct OrderRecord {
    /// Number of failed attempts in a row.
    pub(super) failures: u32,
    /// Earliest time of the next attempt, as Unix time in seconds.
    pub(super) retry_at: Option<i64>,
    /// Error of the last attempt.
    pub(super) last_error: Option<String>,
    /// Order in progress.
    pub(super) order: Option<BegunOrder>,
}

/// An order that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BegunOrder {
    /// Its URL at the authority.
    pub(super) url: String,
    /// Names in the order; once the configuration has other names, the order is useless.
    pub(super) names: Vec<String>,
    /// Time at which it was begun, as Unix time in seconds.
    pub(super) began: i64,
}

/// Age in seconds from which an order is not continued, because authorities drop old orders (Let's Encrypt after a
/// week).
const MAX_ORDER_AGE: i64 = 24 * 3600;

impl OrderRecord {
    fn file(name: &str) -> String {
        format!("{name}.json")
    }

    pub(super) fn load(store: &AccountStore, name: &str) -> io::Result<Self> {
        Ok(store.read_json(&Self::file(name))?.unwrap_or_default())
    }

    /// Writes the record; an empty one removes the file.
    pub(super) fn save(&self, store: &AccountStore, name: &str) -> io::Result<()> {
        match *self == Self::default() {
            true => store.remove(&Self::file(name)),
            false => store.write_json(&Self::file(name), self),
        }
    }

    /// The order to continue for these names, if there is one.
    pub(super) fn usable_order(&self, names: &[String], now: i64) -> Option<&BegunOrder> {
        let order = self.order.as_ref()?;
        let is_usable = order.names == names && now.saturating_sub(order.began) < MAX_ORDER_AGE;
        is_usable.then_some(order)
    }
}

/// Times of the account's orders, as far as they count for the limit.
pub(super) fn recent_orders(store: &AccountStore) -> io::Result<Vec<i64>> {
    Ok(store.read_json(ORDERS)?.unwrap_or_default())
}

/// Records that an order is begun now.
pub(super) fn note_order(store: &AccountStore, now: i64) -> io::Result<()> {
    let mut orders = recent_orders(store)?;
    orders.retain(|at| now.saturating_sub(*at).abs() < ORDER_PERIOD);
    orders.push(now);
    store.write_json(ORDERS, &orders)
}
