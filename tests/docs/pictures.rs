//! The pictures in docs/pictures/: as their script draws them, shown on a page, and naming what the code names.

use std::path::Path;
use std::process::Command;

use crate::shell::has;
use crate::{links, pages};

fn pictures() -> Vec<String> {
    let entries = std::fs::read_dir("docs/pictures").unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let drawn = paths.filter(|path| path.extension().is_some_and(|end| end == "svg"));
    drawn.map(|path| path.display().to_string()).collect()
}

#[test]
fn pictures_are_as_their_script_draws_them() {
    if !has("python3") {
        eprintln!("skipped: needs python3");
        return;
    }
    let ended = Command::new("docs/pictures/make").arg("--check").output();
    let ended = ended.unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
}

#[test]
fn each_picture_is_shown_on_a_page() {
    let mut shown = Vec::new();
    for page in pages() {
        let dir = page.path.parent().unwrap_or(Path::new(""));
        for link in links(&page.text) {
            let target = std::fs::canonicalize(dir.join(link));
            shown.extend(target.ok());
        }
    }
    let pictures = pictures();
    assert!(pictures.len() >= 3, "{pictures:?}");
    for picture in pictures {
        let path = std::fs::canonicalize(&picture).unwrap();
        assert!(shown.contains(&path), "no page shows {picture}");
    }
}

/// The states as the API's description lists them; tests/admin holds real answers against it.
fn states() -> Vec<String> {
    let text = std::fs::read_to_string("src/admin/openapi.json").unwrap();
    let mut left: Vec<serde_json::Value> = vec![serde_json::from_str(&text).unwrap()];
    while let Some(value) = left.pop() {
        match value {
            serde_json::Value::Array(items) => {
                let words: Vec<_> = items.iter().filter_map(serde_json::Value::as_str).collect();
                // Not a list of fields: a restart has two of these as instants.
                if words.contains(&"draining") && words.contains(&"drained") {
                    return words.into_iter().map(str::to_owned).collect();
                }
                left.extend(items);
            }
            serde_json::Value::Object(members) => left.extend(members.into_values()),
            _ => {}
        }
    }
    panic!("src/admin/openapi.json lists no states");
}

#[test]
fn the_picture_of_states_names_every_state() {
    let picture = std::fs::read_to_string("docs/pictures/states.svg").unwrap();
    let states = states();
    assert_eq!(states.len(), 5, "{states:?}");
    for state in states {
        let heading = format!("class=\"f-ink head\">{state}<");
        assert_eq!(picture.matches(&heading).count(), 1, "a box called {state}");
    }
}
