//! `[[route]]`.

use super::pool::name;
use crate::config::declare::section;
use crate::config::forms::custom;
use crate::config::print;
use crate::config::routes::{read_host, read_prefix};

section! {
    /// Which requests go to which pool. With one pool and no route, everything goes there.
    [[route]]
    #[derive(Debug, Clone, PartialEq)]
    pub struct Route {
        /// The request's host, without port: `www.example.org`, `*.example.org` (one or more labels), or `*` for any.
        ///
        /// Lower case. `None`: any.
        host: Option<String> = "*", custom("text", read_host, |host| print::text(host.as_deref().unwrap_or("*")));
        /// Whole leading segments of the path: `/api` matches `/api` and `/api/x`, not `/apis`.
        path_prefix: String = "/", custom("text", read_prefix, |prefix| print::text(prefix));
        /// The pool's name.
        #[no_default(needed)]
        pool: String = "app", name();
    }
}
