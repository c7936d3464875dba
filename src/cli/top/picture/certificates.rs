//! Certificates of listeners.

use serde_json::Value;

use super::super::model::TopModel;
use crate::rt::output::printable;

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateRow {
    /// Names that it is for.
    pub names: String,
    /// Whole days until it expires; negative if it has expired.
    pub days_left: i64,
    /// Time at which it expires.
    pub expires: String,
    /// Name of the authority that signed it.
    pub issuer: String,
    /// Problem that prevents its renewal, if lameduck orders it.
    pub trouble: Option<String>,
}

/// Each certificate once, the one that expires first at the top.
pub(super) fn certificates(model: &TopModel) -> Vec<CertificateRow> {
    let mut rows: Vec<CertificateRow> = Vec::new();
    for proxy in &model.proxies {
        let listeners = proxy.answers.iter().map(|answers| &answers.listeners);
        for listener in listeners.filter_map(Value::as_array).flatten() {
            for certificate in listener["certificates"].as_array().into_iter().flatten() {
                let row = row(listener, certificate);
                if !rows.contains(&row) {
                    rows.push(row);
                }
            }
        }
    }
    rows.sort_by_key(|row| row.days_left);
    rows
}

fn row(listener: &Value, certificate: &Value) -> CertificateRow {
    let said = |value: &Value| printable(value.as_str().unwrap_or("?"));
    let names = certificate["names"].as_array().into_iter().flatten();
    let names: Vec<_> = names.filter_map(Value::as_str).map(printable).collect();
    let ordered = listener["acme"].as_array().into_iter().flatten();
    let mut ordered = ordered.filter(|one| one["file"] == certificate["file"]);
    let trouble = ordered.find_map(|one| one["last_error"].as_str());
    CertificateRow {
        names: match names.is_empty() {
            true => "nobody".to_owned(),
            false => names.join(", "),
        },
        days_left: certificate["days_left"].as_i64().unwrap_or_default(),
        expires: said(&certificate["expires"]),
        issuer: said(&certificate["issuer"]),
        trouble: trouble.map(printable),
    }
}
