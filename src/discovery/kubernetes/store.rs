//! The slices that there are, by what the API server has said so far.

use std::collections::BTreeMap;

use super::slice::ParsedSlice;
use super::version::ResourceVersion;

/// A list that is older than what was known already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the list is of version {listed}, and version {known} was seen before: an API server that lags behind"
)]
pub(super) struct StaleListError {
    /// The list's version.
    pub listed: String,
    /// The newest version that was seen.
    pub known: String,
}

/// All slices, and how far the API server's history is known.
#[derive(Debug, Default)]
pub(super) struct SliceStore {
    slices: BTreeMap<String, ParsedSlice>,
    /// The version of the last list, event or bookmark: whatever is no newer is known already.
    known: ResourceVersion,
}

impl SliceStore {
    /// Takes a whole list for what was known.
    ///
    /// # Errors
    /// The list is older than what is known: it would bring back slices that have gone, and take away newer ones.
    pub(super) fn replace(
        &mut self,
        version: ResourceVersion,
        slices: Vec<ParsedSlice>,
    ) -> Result<(), StaleListError> {
        if version.is_older_than(&self.known) {
            return Err(StaleListError {
                listed: version.as_str().to_owned(),
                known: self.known.as_str().to_owned(),
            });
        }
        self.replace_anyway(version, slices);
        Ok(())
    }

    /// The same, however old the list is: the server may have been set back, by a backup.
    pub(super) fn replace_anyway(&mut self, version: ResourceVersion, slices: Vec<ParsedSlice>) {
        self.slices = slices
            .into_iter()
            .map(|slice| (slice.name.clone(), slice))
            .collect();
        self.known = version;
    }

    /// A slice has come or changed. Says whether that is news.
    pub(super) fn put(&mut self, slice: ParsedSlice) -> bool {
        if slice.version.is_no_newer_than(&self.known) {
            return false;
        }
        self.note_version(slice.version.clone());
        self.slices.insert(slice.name.clone(), slice);
        true
    }

    /// A slice has gone. Says whether that is news: a word about a slice that has come back since is not.
    pub(super) fn remove(&mut self, slice: &ParsedSlice) -> bool {
        let here = self.slices.get(&slice.name);
        let is_news = here.is_some_and(|here| !slice.version.is_older_than(&here.version));
        if is_news {
            self.slices.remove(&slice.name);
        }
        self.note_version(slice.version.clone());
        is_news
    }

    /// Everything up to this version has been said.
    pub(super) fn note_version(&mut self, version: ResourceVersion) {
        if version.can_resume() && !version.is_older_than(&self.known) {
            self.known = version;
        }
    }

    /// Whether these are the slices that are known.
    pub(super) fn is_made_of(&self, slices: &[ParsedSlice]) -> bool {
        let is_known = |slice: &ParsedSlice| self.slices.get(&slice.name) == Some(slice);
        self.slices.len() == slices.len() && slices.iter().all(is_known)
    }

    /// The version that a watch goes on from.
    pub(super) fn known(&self) -> &ResourceVersion {
        &self.known
    }

    /// The slices, by name.
    pub(super) fn slices(&self) -> impl Iterator<Item = &ParsedSlice> {
        self.slices.values()
    }
}

#[cfg(test)]
mod tests {
    use super::super::slice::AddressFamily;
    use super::*;

    fn version(number: u64) -> ResourceVersion {
        ResourceVersion::new(number.to_string())
    }

    fn slice(name: &str, number: u64) -> ParsedSlice {
        ParsedSlice {
            name: name.to_owned(),
            uid: name.to_owned(),
            version: version(number),
            family: Some(AddressFamily::V4),
            ports: Vec::new(),
            endpoints: Vec::new(),
        }
    }

    fn shown(store: &SliceStore) -> Vec<String> {
        store
            .slices()
            .map(|slice| format!("{}@{}", slice.name, slice.version.as_str()))
            .collect()
    }

    fn store() -> SliceStore {
        let mut store = SliceStore::default();
        store
            .replace(version(10), vec![slice("a", 5), slice("b", 9)])
            .unwrap();
        store
    }

    #[test]
    fn an_older_list_is_refused_and_changes_nothing() {
        let mut store = store();
        assert!(store.put(slice("c", 12)));
        let error = store.replace(version(11), vec![slice("a", 5)]).unwrap_err();
        assert!(
            error.to_string().contains("version 11, and version 12"),
            "{error}"
        );
        assert_eq!(shown(&store), ["a@5", "b@9", "c@12"]);
        store.replace_anyway(version(11), vec![slice("a", 5)]);
        assert_eq!(
            (shown(&store), store.known().as_str()),
            (vec!["a@5".to_owned()], "11")
        );
    }

    #[test]
    fn an_older_event_changes_nothing() {
        let mut store = store();
        assert!(!store.put(slice("a", 10)));
        assert!(!store.put(slice("gone", 8)));
        assert_eq!(shown(&store), ["a@5", "b@9"]);
    }

    #[test]
    fn a_late_deletion_of_a_slice_that_came_back_changes_nothing() {
        let mut store = store();
        assert!(store.remove(&slice("a", 11)));
        assert!(store.put(slice("a", 13)));
        assert!(!store.remove(&slice("a", 12)));
        assert_eq!(shown(&store), ["a@13", "b@9"]);
    }

    #[test]
    fn a_deletion_with_the_version_that_the_slice_had_is_believed() {
        let mut store = store();
        assert!(store.remove(&slice("b", 9)));
        assert_eq!(
            (shown(&store), store.known().as_str()),
            (vec!["a@5".to_owned()], "10")
        );
    }

    #[test]
    fn a_bookmark_moves_the_place_to_resume_from_and_never_back() {
        let mut store = store();
        store.note_version(version(40));
        store.note_version(version(30));
        store.note_version(ResourceVersion::new("..."));
        assert_eq!(store.known().as_str(), "40");
    }

    #[test]
    fn a_server_without_numbers_is_believed_as_it_comes() {
        let odd = |name: &str| ParsedSlice {
            version: ResourceVersion::new(""),
            ..slice(name, 0)
        };
        let mut store = SliceStore::default();
        store
            .replace(ResourceVersion::new("..."), vec![odd("a")])
            .unwrap();
        assert!(store.put(odd("b")));
        assert!(store.remove(&odd("a")));
        store
            .replace(ResourceVersion::new("..."), vec![odd("c")])
            .unwrap();
        assert_eq!(shown(&store), ["c@"]);
        assert!(!store.known().can_resume());
    }
}
