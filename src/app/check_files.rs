//! Checks the files of routes: directories that must exist, and pages that are read here.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::config::plain_file::read_lasting_file;
use crate::config::{Config, ConfigFindings, DiscoveryKind, ErrorPages, plain};
use crate::discovery::file::read_backends;

/// Maximum size of a page, in bytes: it is kept in memory, and sent in one piece.
const LARGEST_PAGE: u64 = 256 << 10;

/// Checks directories, and reads pages.
pub(super) fn check(config: &mut Config, f: &mut ConfigFindings) {
    read_pages("server.error_pages", &mut config.server.error_pages, f);
    look_at_backend_files(config, f);
    for (i, route) in config.routes.iter_mut().enumerate() {
        read_pages(
            &format!("route[{i}].error_pages"),
            &mut route.error_pages,
            f,
        );
        if let Some(files) = &route.files {
            let at = format!("route[{i}].files.root");
            if f.sound(&[&at]) {
                check_root(&at, &files.root, f);
            }
        }
    }
}

fn read_pages(at: &str, pages: &mut ErrorPages, f: &mut ConfigFindings) {
    if !f.sound(&[at]) {
        return;
    }
    for page in &mut pages.0 {
        match read_lasting_file(&page.path, LARGEST_PAGE) {
            Ok(content) => page.content = Arc::from(content),
            Err(error) => {
                let name = page.path.display();
                let remedy = match error.kind() {
                    io::ErrorKind::NotFound => "write the page, or another path".to_owned(),
                    io::ErrorKind::PermissionDenied => {
                        format!("let lameduck's user read it: `ls -l {name}` shows who may")
                    }
                    io::ErrorKind::FileTooLarge => {
                        "make it smaller: a page is sent to many at once, when least can be spared"
                            .into()
                    }
                    _ => "name a plain file".into(),
                };
                f.error(
                    f.place(at),
                    format!("`error_pages`: can't read {name}: {}", plain(&error)),
                    remedy,
                );
            }
        }
    }
}

/// Checks that a root exists: a missing one is a mistake, even if it is created later, because until then it serves
/// nothing.
fn check_root(at: &str, root: &Path, f: &mut ConfigFindings) {
    let name = root.display();
    let (why, remedy) = match std::fs::metadata(root) {
        Ok(data) if data.is_dir() => {
            if root == Path::new("/") {
                f.warning(
                    f.place(at),
                    "`root` is the whole file system: every file that lameduck's user may read is served",
                    "name the directory with the public files only",
                );
            }
            return;
        }
        Ok(_) => (
            "it is no directory".to_owned(),
            "name the directory that the file is in",
        ),
        Err(error) => (
            plain(&error),
            match error.kind() {
                io::ErrorKind::PermissionDenied => "let lameduck's user read it",
                _ => "make it, or name the directory with the files",
            },
        ),
    };
    f.error(f.place(at), format!("`root`: {name}: {why}"), remedy);
}

/// Checks the files of `[[pool.discovery]]`. A problem in one doesn't prevent the start: the file is read repeatedly,
/// and may be in the middle of being written.
fn look_at_backend_files(config: &Config, f: &mut ConfigFindings) {
    for (i, pool) in config.pools.iter().enumerate() {
        for (j, discovery) in pool.discovery.iter().enumerate() {
            let at = format!("pool[{i}].discovery[{j}].path");
            let path = match (&discovery.source.kind, &discovery.source.path) {
                (DiscoveryKind::File, Some(path)) if f.sound(&[&at]) => path,
                _ => continue,
            };
            let set = match read_backends(path) {
                Ok(set) => set,
                Err(error) => {
                    f.warning(
                        f.place(&at),
                        format!("`path`: {error}: the pool has no backends of it yet"),
                        "mend it; it is read again by itself, without a reload",
                    );
                    continue;
                }
            };
            let taken = |name: &str| pool.backends.iter().any(|backend| backend.name == name);
            if let Some((name, _)) = set.iter().find(|(name, _)| taken(name)) {
                f.warning(
                    f.place(&at),
                    format!(
                        "`path`: {} has a backend `{name}`, and so has this file: the one of this file is used",
                        path.display()
                    ),
                    "give one of them another name",
                );
            }
        }
    }
}
