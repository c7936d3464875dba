//! What is remembered of a certificate's orders, and of all orders of an account. It is on the disk before the authority
//! is asked, so that a proxy that crashes again and again orders no more than another.

use std::io;

use serde::{Deserialize, Serialize};

use super::store::AccountStore;
use crate::core::renewal::ORDER_PERIOD;

/// The account's orders.
const ORDERS: &str = "orders.json";

/// What is remembered of one certificate's orders. All of it is gone once it is issued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct OrderRecord {
    /// Tries in a row that have failed.
    pub(super) failures: u32,
    /// The earliest time of the next attempt, as Unix time.
    pub(super) retry_at: Option<i64>,
    /// What went wrong at the last one.
    pub(super) last_error: Option<String>,
    /// The order that was begun.
    pub(super) order: Option<BegunOrder>,
}

/// An order that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BegunOrder {
    /// Its URL at the authority.
    pub(super) url: String,
    /// What was ordered: an order for other names is of no use once the configuration has changed.
    pub(super) names: Vec<String>,
    /// When it was begun, as Unix time.
    pub(super) began: i64,
}

/// An older order is not continued: authorities forget them (Let's Encrypt after a week).
const LONGEST_ORDER: i64 = 24 * 3600;

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

    /// The order to go on with, for these names.
    pub(super) fn usable_order(&self, names: &[String], now: i64) -> Option<&BegunOrder> {
        let order = self.order.as_ref()?;
        let is_usable = order.names == names && now.saturating_sub(order.began) < LONGEST_ORDER;
        is_usable.then_some(order)
    }
}

/// When the account's orders were begun, as far as they count.
pub(super) fn recent_orders(store: &AccountStore) -> io::Result<Vec<i64>> {
    Ok(store.read_json(ORDERS)?.unwrap_or_default())
}

/// Notes that an order is begun now.
pub(super) fn note_order(store: &AccountStore, now: i64) -> io::Result<()> {
    let mut orders = recent_orders(store)?;
    orders.retain(|at| now.saturating_sub(*at).abs() < ORDER_PERIOD);
    orders.push(now);
    store.write_json(ORDERS, &orders)
}
