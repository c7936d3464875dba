//! Finds the file for a request: the steps of `try`, the index of a directory, and precompressed variants.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::config::{FilesAction, PathPattern, TryStep};
use crate::core::files::path::{ServedPath, is_hidden};
use crate::core::preference::weigh_coding;
use crate::rt::rooted::{DiskWait, EntryKind, EntryState, OpenedRoot, ServedRoot};

/// The result of looking for a file.
#[derive(Debug)]
pub enum FoundFile {
    /// A file, which has been opened.
    File(OpenedFile),
    /// A directory that was requested without the slash at its end.
    Directory,
    /// No file; the status of the response.
    Nothing(u16),
}

/// The file for a request, which has been opened.
#[derive(Debug)]
pub struct OpenedFile {
    /// Its descriptor, open for reading.
    pub file: Arc<OwnedFd>,
    /// The file's state when it was opened.
    pub state: EntryState,
    /// Its path below the root, without the extension of a coding.
    pub relative: Vec<u8>,
    /// Its content coding; `None`: uncompressed.
    pub coding: Option<&'static FileCoding>,
}

/// A content coding of precompressed files.
#[derive(Debug, PartialEq, Eq)]
pub struct FileCoding {
    /// The name in `Content-Encoding`.
    pub name: &'static str,
    /// The extension that is added to the file's name.
    pub extension: &'static str,
}

/// The coding with the smallest files comes first: it is used if the client gives several the same weight.
static CODINGS: [FileCoding; 3] = [
    FileCoding {
        name: "zstd",
        extension: ".zst",
    },
    FileCoding {
        name: "br",
        extension: ".br",
    },
    FileCoding {
        name: "gzip",
        extension: ".gz",
    },
];

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub struct WantedFile<'a> {
    /// The `files` action of the route: the root, and the names to try.
    pub files: &'a FilesAction,
    /// The request's path.
    pub path: &'a ServedPath,
    /// `Accept-Encoding`.
    pub accepted: Option<&'a [u8]>,
    /// Whether the route has a pool, which gets requests that match no file, also those for a directory without an
    /// index.
    pub has_pool: bool,
    /// Whether to wait for a disk.
    pub wait: DiskWait,
}

/// Finds the file for a request.
///
/// # Errors
/// If the root can't be opened; or a disk would have to be waited for, and `wait` forbids that
/// ([`io::ErrorKind::WouldBlock`]).
pub fn find_file(root: &ServedRoot, wanted: &WantedFile<'_>) -> io::Result<FoundFile> {
    let wait = wanted.wait;
    let opened = root.open(wait)?;
    let search = |root: &OpenedRoot| FileSearch { root, wanted }.run();
    match search(&opened)? {
        // The file may be in a release that has just replaced this one.
        nothing @ FoundFile::Nothing(_) => match root.reopen(&opened, wait)? {
            Some(newer) => search(&newer),
            None => Ok(nothing),
        },
        found => Ok(found),
    }
}

struct FileSearch<'a> {
    root: &'a OpenedRoot,
    wanted: &'a WantedFile<'a>,
}

impl FileSearch<'_> {
    fn run(&self) -> io::Result<FoundFile> {
        let mut is_forbidden = false;
        for step in &self.wanted.files.steps {
            match step {
                TryStep::File(pattern) => {
                    // A path that ends in a slash is not a file, unless the pattern names one below it.
                    if pattern.has_path
                        && self.wanted.path.is_directory
                        && !pattern.after.starts_with('/')
                    {
                        continue;
                    }
                    let relative = self.place(pattern);
                    if let Some(found) = self.open_known(&relative) {
                        return Ok(FoundFile::File(found));
                    }
                    match self.look_at(&relative)? {
                        Looked::Entry(state) if state.kind == EntryKind::File => {
                            if let Some(found) = self.open(relative, &mut is_forbidden)? {
                                return Ok(FoundFile::File(found));
                            }
                        }
                        Looked::Forbidden => is_forbidden = true,
                        Looked::Entry(_) | Looked::Nothing => {}
                    }
                }
                TryStep::Directory(pattern) => {
                    let relative = self.place(pattern);
                    match self.look_at(&relative)? {
                        Looked::Entry(state) if state.kind == EntryKind::Directory => {
                            let is_own = pattern.before.is_empty() && pattern.after.is_empty();
                            let is_bare = is_own && !self.wanted.path.is_directory;
                            if is_bare && !self.wanted.has_pool {
                                return Ok(FoundFile::Directory);
                            }
                            match self.index_of(&relative)? {
                                // The path belongs to the app too, as `/` does.
                                FoundFile::Nothing(_) if self.wanted.has_pool => {}
                                FoundFile::File(_) if is_bare => return Ok(FoundFile::Directory),
                                // This directory is meant, with or without an index.
                                found => return Ok(found),
                            }
                        }
                        Looked::Forbidden => is_forbidden = true,
                        Looked::Entry(_) | Looked::Nothing => {}
                    }
                }
                TryStep::Status(status) => return Ok(FoundFile::Nothing(*status)),
            }
        }
        Ok(FoundFile::Nothing(if is_forbidden { 403 } else { 404 }))
    }

    fn index_of(&self, directory: &[u8]) -> io::Result<FoundFile> {
        let mut is_forbidden = true;
        for name in &self.wanted.files.index {
            let relative = join(directory, name.as_bytes());
            if let Some(found) = self.open_known(&relative) {
                return Ok(FoundFile::File(found));
            }
            if let Looked::Entry(state) = self.look_at(&relative)?
                && state.kind == EntryKind::File
                && let Some(found) = self.open(relative, &mut is_forbidden)?
            {
                return Ok(FoundFile::File(found));
            }
        }
        // Directories are never listed.
        Ok(FoundFile::Nothing(403))
    }

    /// Returns the path below the root that a pattern names for this request.
    fn place(&self, pattern: &PathPattern) -> Vec<u8> {
        let mut place = pattern.before.trim_start_matches('/').as_bytes().to_vec();
        if pattern.has_path {
            if !place.is_empty() && !place.ends_with(b"/") {
                place.push(b'/');
            }
            place.extend_from_slice(&self.wanted.path.relative);
        }
        let after = match place.is_empty() || place.ends_with(b"/") {
            true => pattern.after.trim_start_matches('/'),
            false => &pattern.after,
        };
        place.extend_from_slice(after.as_bytes());
        while place.ends_with(b"/") {
            place.pop();
        }
        place
    }

    fn look_at(&self, relative: &[u8]) -> io::Result<Looked> {
        if !self.wanted.files.hidden && is_hidden(relative) {
            return Ok(Looked::Nothing);
        }
        match self.root.look_at(relative, self.wanted.wait) {
            Ok(state) => Ok(Looked::Entry(state)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Looked::Forbidden),
            // Missing, below a file, a symlink loop, outside of the root, or too long: nothing to serve.
            Err(_) => Ok(Looked::Nothing),
        }
    }

    /// Returns the file if it was served a moment ago. If compressed variants have to be looked up, this saves
    /// nothing.
    fn open_known(&self, relative: &[u8]) -> Option<OpenedFile> {
        if self.wanted.files.precompressed || (!self.wanted.files.hidden && is_hidden(relative)) {
            return None;
        }
        let (file, state) = self.root.open_known_file(relative, self.wanted.wait)?;
        Some(OpenedFile {
            file: Arc::new(file),
            state,
            relative: relative.to_vec(),
            coding: None,
        })
    }

    /// Opens a file, or its variant in the coding that the client prefers.
    fn open(&self, relative: Vec<u8>, is_forbidden: &mut bool) -> io::Result<Option<OpenedFile>> {
        if self.wanted.files.precompressed {
            for coding in accepted_codings(self.wanted.accepted) {
                let mut neighbour = relative.clone();
                neighbour.extend_from_slice(coding.extension.as_bytes());
                if let Looked::Entry(state) = self.look_at(&neighbour)?
                    && state.kind == EntryKind::File
                    && let Some((file, state)) = self.open_for_reading(&neighbour, &mut false)?
                {
                    return Ok(Some(OpenedFile {
                        file: Arc::new(file),
                        state,
                        relative,
                        coding: Some(coding),
                    }));
                }
            }
        }
        let opened = self.open_for_reading(&relative, is_forbidden)?;
        Ok(opened.map(|(file, state)| OpenedFile {
            file: Arc::new(file),
            state,
            relative,
            coding: None,
        }))
    }

    fn open_for_reading(
        &self,
        relative: &[u8],
        is_forbidden: &mut bool,
    ) -> io::Result<Option<(OwnedFd, EntryState)>> {
        match self.root.open_file(relative, self.wanted.wait) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            // A shortage of descriptors only fails this request; a later one may find the file.
            Err(error) if error.raw_os_error().is_some_and(is_shortage) => Err(error),
            Err(error) => {
                *is_forbidden |= error.kind() == io::ErrorKind::PermissionDenied;
                Ok(None)
            }
        }
    }
}

/// The result of looking at a path.
enum Looked {
    Entry(EntryState),
    /// Its directory may not be searched.
    Forbidden,
    Nothing,
}

/// Returns whether no descriptor, or no memory, is left.
fn is_shortage(error: i32) -> bool {
    matches!(error, libc::EMFILE | libc::ENFILE | libc::ENOMEM)
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        directory => [directory, b"/", name].concat(),
    }
}

/// Returns the codings that a client accepts, by weight, without those that have a lower weight than `identity`.
fn accepted_codings(accepted: Option<&[u8]>) -> impl Iterator<Item = &'static FileCoding> {
    let accepted = accepted.unwrap_or_default();
    let plain = weigh_coding(accepted, "identity").filter(|_| accepted_names_identity(accepted));
    let weigh = |coding: &'static FileCoding| {
        let weight = weigh_coding(accepted, coding.name).filter(|weight| *weight > 0)?;
        (weight >= plain.unwrap_or(0)).then_some((std::cmp::Reverse(weight), coding))
    };
    let mut codings: Vec<_> = CODINGS.iter().filter_map(weigh).collect();
    // The sort is stable: codings with the same weight stay in the order of the list.
    codings.sort_by_key(|(weight, _)| *weight);
    codings.into_iter().map(|(_, coding)| coding)
}

/// Returns whether `identity` is named explicitly, and not only by `*`.
fn accepted_names_identity(accepted: &[u8]) -> bool {
    memchr::memmem::find(&accepted.to_ascii_lowercase(), b"identity").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_in_the_order_of_the_clients_preference() {
        for (accepted, codings) in [
            (None, &[][..]),
            (Some("gzip, deflate, br, zstd"), &["zstd", "br", "gzip"][..]),
            (Some("gzip;q=1, br;q=0.5"), &["gzip", "br"]),
            (Some("gzip;q=0, *"), &["zstd", "br"]),
            (Some("identity"), &[]),
            (Some("identity;q=1, gzip;q=0.5"), &[]),
            (Some("identity;q=0.5, gzip;q=0.5"), &["gzip"]),
            (Some("*;q=0"), &[]),
        ] {
            let found: Vec<_> = accepted_codings(accepted.map(str::as_bytes))
                .map(|coding| coding.name)
                .collect();
            assert_eq!(found, codings, "{accepted:?}");
        }
    }
}
