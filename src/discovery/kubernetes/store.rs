//! All slices, as known from the API server's lists and events.

use std::collections::BTreeMap;

use super::slice::ParsedSlice;
use super::version::ResourceVersion;

/// Error for a list that is older than what is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the list is of version {listed}, and version {known} was seen before: an API server that lags behind"
)]
pub(super) struct StaleListError {
    /// Version of the list.
    pub listed: String,
    /// Newest known version.
    pub known: String,
}

/// All slices, and the version up to which the API server's history is known.
#[derive(Debug, Default)]
pub(super) struct SliceStore {
    slices: BTreeMap<String, ParsedSlice>,
    /// Version of the last list, event or bookmark; anything that is not newer is known already.
    known: ResourceVersion,
}

impl SliceStore {
    /// Replaces all slices by those of a list.
    ///
    /// # Errors
    /// The list is older than what is known: it would bring back removed slices, and remove newer ones.
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

    /// Replaces all slices, however old the list is, because the server may have been restored from a backup.
    pub(super) fn replace_anyway(&mut self, version: ResourceVersion, slices: Vec<ParsedSlice>) {
        self.slices = slices
            .into_iter()
            .map(|slice| (slice.name.clone(), slice))
            .collect();
        self.known = version;
    }

    /// Adds or changes a slice. Returns whether that is new information.
    pub(super) fn put(&mut self, slice: ParsedSlice) -> bool {
        if slice.version.is_no_newer_than(&self.known) {
            return false;
        }
        self.note_version(slice.version.clone());
        self.slices.insert(slice.name.clone(), slice);
        true
    }

    /// Removes a slice. Returns whether that is new information: it is not for a slice that was created again since.
    pub(super) fn remove(&mut self, slice: &ParsedSlice) -> bool {
        let here = self.slices.get(&slice.name);
        let is_news = here.is_some_and(|here| !slice.version.is_older_than(&here.version));
        if is_news {
            self.slices.remove(&slice.name);
        }
        self.note_version(slice.version.clone());
        is_news
    }

    /// Notes that everything up to this version is known.
    pub(super) fn note_version(&mut self, version: ResourceVersion) {
        if version.can_resume() && !version.is_older_than(&self.known) {
            self.known = version;
        }
    }

    /// Whether these slices are exactly those in the store.
    pub(super) fn is_made_of(&self, slices: &[ParsedSlice]) -> bool {
        let is_known = |slice: &ParsedSlice| self.slices.get(&slice.name) == Some(slice);
        self.slices.len() == slices.len() && slices.iter().all(is_known)
    }

    /// Version from which a watch continues.
    pub(super) fn known(&self) -> &ResourceVersion {
        &self.known
    }

    /// The slices, sorted by name.
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
