//! `[route.files]`.

use crate::config::declare::section;
use crate::config::files::{CacheRule, CacheRules, TryList, TryStep, read_index, root_directory};
use crate::config::forms::{custom, list};
use crate::config::print;
use std::path::PathBuf;

section! {
    /// The route's action: GET and HEAD are answered with [files of a directory](files.md), other methods with 405. In one
    /// line it is a table with `root` in it. Beside `pool` or `split`, what is [no file](files.md#files-and-an-app) goes
    /// there.
    [route.files]
    #[derive(Debug, Clone, PartialEq)]
    pub struct FilesAction {
        /// The directory. What is outside of it is never served, whatever links there. It may be a link itself: another
        /// release is then served from the moment at which the link is replaced.
        #[no_default(needed)]
        root: PathBuf = "/srv/www", root_directory();
        /// Names of the file that a directory is answered with, the first that there is. Empty: none.
        index: Vec<String> = ["index.html"], list("list of file names", "[\"index.html\"]", custom("file name", read_index, |name| print::text(name)));
        /// What is looked for, in this order. `{path}` is the request's path; a slash at the end means a directory with an
        /// index. The last one may be a status, such as `"=404"`, which is what is answered without one, too. A
        /// single-page app ends it with `"/index.html"`.
        ///
        /// The steps, decided one after the other.
        #[key = "try"]
        steps: Vec<TryStep> = ["{path}", "{path}/"], TryList;
        /// Whether `style.css.zst`, `style.css.br` or `style.css.gz` is served in the place of `style.css`, where it is
        /// there and the client takes it. Such answers have `Vary: Accept-Encoding`.
        precompressed: bool = false;
        /// How long clients and caches may keep a file without asking again (`Cache-Control`): a duration, `"no-cache"`,
        /// `"no-store"`, or `"immutable"` for files that never change under their name. Or a table of them by pattern,
        /// such as `"*.css"` for names and `"/assets/*"` for paths; the longest pattern that fits counts. Empty: the
        /// field is not sent.
        cache: Vec<CacheRule> = "", CacheRules;
        /// Whether files and directories whose name begins with a dot (`.git`, `.env`) are served. `/.well-known` is,
        /// anyway.
        hidden: bool = false;
    }
}
