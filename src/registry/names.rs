//! Which names a pool's backends have, so that thousands can come without looking at all others each time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The names in use.
#[derive(Debug, Default)]
pub struct Names {
    /// As shown, `~2` included: each is unique.
    shown: HashSet<Arc<str>>,
    /// Without it: how many have each.
    bases: HashMap<String, usize>,
}

impl Names {
    /// How a newcomer of this name is shown: by the name itself, or with the first number that is free.
    pub fn free(&self, base: &str) -> String {
        if !self.shown.contains(base) {
            return base.to_owned();
        }
        (2u32..)
            .map(|n| format!("{base}~{n}"))
            .find(|shown| !self.shown.contains(&**shown))
            .unwrap_or_default()
    }

    /// Whether some backend has this name, however it is shown.
    pub fn has(&self, base: &str) -> bool {
        self.bases.contains_key(base)
    }

    /// A backend has come.
    pub fn join(&mut self, base: &str, shown: &Arc<str>) {
        self.shown.insert(shown.clone());
        *self.bases.entry(base.to_owned()).or_default() += 1;
    }

    /// It has left.
    pub fn leave(&mut self, base: &str, shown: &str) {
        self.shown.remove(shown);
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
        let mut names = Names::default();
        let join = |names: &mut Names, base: &str| {
            let shown: Arc<str> = names.free(base).into();
            names.join(base, &shown);
            shown
        };
        let shown = [(); 3].map(|()| join(&mut names, "a").to_string());
        assert_eq!(shown, ["a", "a~2", "a~3"]);
        names.leave("a", "a~2");
        assert_eq!(&*join(&mut names, "a"), "a~2");
        assert_eq!(&*join(&mut names, "a~2"), "a~2~2", "somebody's own name");
        for shown in ["a", "a~2", "a~3"] {
            assert!(names.has("a"));
            names.leave("a", shown);
        }
        assert!(!names.has("a") && names.has("a~2"));
        assert_eq!(names.free("a"), "a");
    }
}
