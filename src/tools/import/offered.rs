//! Keys that this version of lameduck has. The configuration reader is asked, so that an import knows each key as soon
//! as it exists, and writes none that would be refused.

use super::draft::{DraftKeys, toml_text};
use crate::config::{self, Severity, schema::SECTIONS};

/// Whether a section has a key or subsection with this name.
pub fn has_key(header: &str, name: &str) -> bool {
    let section = SECTIONS.iter().find(|section| section.header == header);
    section.is_some_and(|section| section.knows(name))
}

/// Whether `[[route]]` has a key with this name.
pub fn has_route_key(name: &str) -> bool {
    has_key("[[route]]", name)
}

/// Checks whether a route with these keys is accepted. `pools` are those that it names.
///
/// # Errors
/// It is not; with the message of the configuration reader.
pub fn check_route(keys: &DraftKeys, pools: &[String]) -> Result<(), String> {
    let mut text = String::from("[[listener]]\naddress = \"127.0.0.1:8080\"\n");
    let mut names: Vec<&String> = pools.iter().collect();
    names.sort_unstable();
    names.dedup();
    for pool in names {
        text.push_str(&format!(
            "[[pool]]\nname = {}\n[[pool.backend]]\naddress = \"127.0.0.1:1\"\n",
            toml_text(pool)
        ));
    }
    if pools.is_empty() {
        text.push_str("[[pool]]\nname = \"any\"\n[[pool.backend]]\naddress = \"127.0.0.1:1\"\n");
        text.push_str("[[route]]\nhost = \"any.example\"\npool = \"any\"\n");
    }
    text.push_str("[[route]]\n");
    for (key, value) in keys {
        text.push_str(&format!("{key} = {value}\n"));
    }
    let Err(error) = config::parse("lameduck.toml", &text) else {
        return Ok(());
    };
    let report = error.report();
    let mut found = report.diagnostics.iter();
    let first = found.find(|found| found.severity == Severity::Error);
    Err(first.map_or_else(|| error.to_string(), |found| found.message.clone()))
}

/// Checks whether a key with this value is accepted beside a pool.
///
/// # Errors
/// It is not, or there is no such key; with a message.
pub fn check_key(key: &'static str, value: &str) -> Result<(), String> {
    if !has_route_key(key) {
        return Err(format!("this version has no `{key}` for routes"));
    }
    let keys = vec![("pool", toml_text("any")), (key, value.to_owned())];
    check_route(&keys, &["any".to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_reader() {
        assert!(has_route_key("path_regex") && !has_route_key("path_regexes"));
        assert!(has_key("[pool.upstream]", "read_timeout") && !has_key("[nothing]", "x"));
    }

    #[test]
    fn refused_keys_are_reported_with_the_readers_message() {
        assert_eq!(check_key("path_regex", "'^/a'"), Ok(()));
        let refused = check_key("path_regex", "'(?!a)'").unwrap_err();
        assert!(refused.contains("look"), "{refused}");
        assert!(check_key("nothing", "1").unwrap_err().contains("`nothing`"));
    }
}
