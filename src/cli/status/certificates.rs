//! Certificates of listeners, for `lameduck status --listeners`.

use serde_json::Value;

use crate::rt::output::{count, printable};

/// A line for each certificate; empty without TLS.
pub(super) fn certificates(listeners: &Value) -> String {
    let mut text = String::new();
    let none = Vec::new();
    for listener in listeners.as_array().unwrap_or(&none) {
        for certificate in listener["certificates"].as_array().unwrap_or(&none) {
            let names = certificate["names"].as_array().unwrap_or(&none).iter();
            let names: Vec<_> = names.filter_map(Value::as_str).map(printable).collect();
            let said = |value: &Value| printable(value.as_str().unwrap_or("?"));
            text.push_str(&format!(
                "\n\n{}: certificate of {} expires in {} ({}, {}, {})",
                said(&listener["address"]),
                if names.is_empty() {
                    "nobody".to_owned()
                } else {
                    names.join(", ")
                },
                count(certificate["days_left"].as_u64().unwrap_or(0), "day"),
                said(&certificate["expires"]),
                said(&certificate["issuer"]),
                said(&certificate["file"]),
            ));
        }
        for ordered in listener["acme"].as_array().unwrap_or(&none) {
            text.push_str(&ordered_certificate(listener, ordered));
        }
    }
    text
}

/// Line for a certificate that lameduck orders itself: when the next order is, and what prevents it.
fn ordered_certificate(listener: &Value, ordered: &Value) -> String {
    let said = |value: &Value| printable(value.as_str().unwrap_or("?"));
    let names = ordered["names"].as_array().into_iter().flatten();
    let names: Vec<_> = names.filter_map(Value::as_str).map(printable).collect();
    let next = said(&ordered["next_order"]);
    let what = match ordered["state"].as_str().unwrap_or("?") {
        "good" => format!("is renewed at {next}"),
        "ordering" => "is being ordered".to_owned(),
        "waiting" => format!("waits to be ordered, at {next}"),
        _ => format!(
            "can't be ordered ({} so far, next try at {next}): {}",
            count(ordered["failures"].as_u64().unwrap_or(0), "failure"),
            said(&ordered["last_error"]),
        ),
    };
    format!(
        "\n\n{}: certificate of {} by {} {what}",
        said(&listener["address"]),
        names.join(", "),
        said(&ordered["directory"]),
    )
}
