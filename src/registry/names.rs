//! Index of the names of a pool's backends, so that thousands can be added without comparing each with all others.

use std::collections::HashMap;

use super::endpoint::BackendKey;

/// Whether a name as a user writes it refers to the backend with the name `shown`: with or without its `~2`.
pub fn matches_name(given: &str, shown: &str) -> bool {
    let base = shown.rsplit_once('~').map(|(base, _)| base);
    shown == given || base == Some(given)
}

/// The names in use.
#[derive(Debug, Default)]
pub struct BackendNames {
    /// Names as shown, including `~2`: each is unique.
    shown: HashMap<String, BackendKey>,
    /// Names without their number, for backends that are shown with one.
    numbered: HashMap<String, Vec<BackendKey>>,
    /// Names as configured or registered, with the number of backends of each.
    bases: HashMap<String, usize>,
}

impl BackendNames {
    /// Returns the shown name for a new backend: `base` itself, or with the first free number.
    pub fn free(&self, base: &str) -> String {
        if !self.shown.contains_key(base) {
            return base.to_owned();
        }
        (2u32..)
            .map(|n| format!("{base}~{n}"))
            .find(|shown| !self.shown.contains_key(shown))
            .unwrap_or_default()
    }

    /// Whether some backend has this name, with or without a number.
    pub fn has(&self, base: &str) -> bool {
        self.bases.contains_key(base)
    }

    /// Returns the backends that a given name refers to, in the order in which they were added: `api-0` refers to the
    /// one shown so and each `api-0~2`; `api-0~2` only to itself.
    pub fn keys_meant(&self, given: &str) -> Vec<BackendKey> {
        let mut keys = self.numbered.get(given).cloned().unwrap_or_default();
        keys.extend(self.shown.get(given));
        keys.sort_unstable();
        keys
    }

    /// Adds a backend.
    pub fn join(&mut self, key: BackendKey, base: &str, shown: &str) {
        self.shown.insert(shown.to_owned(), key);
        if let Some((stem, _)) = shown.rsplit_once('~') {
            self.numbered.entry(stem.to_owned()).or_default().push(key);
        }
        *self.bases.entry(base.to_owned()).or_default() += 1;
    }

    /// Removes a backend.
    pub fn leave(&mut self, base: &str, shown: &str) {
        let key = self.shown.remove(shown);
        if let Some((stem, _)) = shown.rsplit_once('~')
            && let Some(keys) = self.numbered.get_mut(stem)
        {
            keys.retain(|other| Some(*other) != key);
            if keys.is_empty() {
                self.numbered.remove(stem);
            }
        }
        if let Some(count) = self.bases.get_mut(base) {
            *count -= 1;
            if *count == 0 {
                self.bases.remove(base);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_number_is_given() {
        let mut names = BackendNames::default();
        let mut key = 0;
        let mut join = |names: &mut BackendNames, base: &str| {
            let shown = names.free(base);
            key += 1;
            names.join(BackendKey(key), base, &shown);
            shown
        };
        let shown = [(); 3].map(|()| join(&mut names, "a"));
        assert_eq!(shown, ["a", "a~2", "a~3"]);
        names.leave("a", "a~2");
        assert_eq!(join(&mut names, "a"), "a~2");
        assert_eq!(join(&mut names, "a~2"), "a~2~2", "somebody's own name");
        assert_eq!(names.keys_meant("a"), [1, 3, 4].map(BackendKey));
        assert_eq!(names.keys_meant("a~2"), [4, 5].map(BackendKey));
        assert!(names.keys_meant("b").is_empty());
        for shown in ["a", "a~2", "a~3"] {
            assert!(names.has("a"));
            names.leave("a", shown);
        }
        assert!(!names.has("a") && names.has("a~2"));
        assert!(names.keys_meant("a").is_empty());
        assert_eq!(names.keys_meant("a~2"), [BackendKey(5)]);
        assert_eq!(names.free("a"), "a");
    }
}
