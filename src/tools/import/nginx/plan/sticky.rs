//! Converts `sticky cookie` of an `upstream` to `[pool.sticky]`.

use crate::config::duration;
use crate::tools::import::draft::{DraftKeys, PoolDraft, toml_text};
use crate::tools::import::nginx::scope::read_time;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::NoticeList;

/// Reads `sticky`, and reports what can't be imported.
pub(super) fn read_sticky(directive: &NginxDirective, draft: &mut PoolDraft) {
    let leave_out = |draft: &mut PoolDraft, why: &str| {
        let text = format!("`{}`: {why}", directive.line());
        draft.notices.leave_out(&directive.place, text);
    };
    if directive.arg(0) != "cookie" {
        let why =
            "lameduck sets a cookie of its own, and follows none of the app's: see docs/sticky.md";
        return leave_out(draft, why);
    }
    let name = directive.arg(1);
    if name.is_empty() || name.contains('$') {
        return leave_out(draft, "the cookie has no fixed name");
    }
    let mut keys: DraftKeys = vec![("cookie", toml_text(name))];
    // As in nginx, the cookie ends with the browser session, and has neither `SameSite` nor `Secure`.
    let (mut age, mut site, mut secure) = ("0s".to_owned(), "off", "false");
    for word in directive.args().iter().skip(2) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match (key, value) {
            // lameduck always sets this attribute.
            ("httponly", _) => {}
            ("secure", _) => secure = "true",
            ("expires", "max") => age = "365d".to_owned(),
            ("expires", value) => match read_time(value) {
                Some(time) => age = duration::format(time.min(duration::MAX)),
                None => leave_out(draft, "`expires` is no time"),
            },
            ("samesite", "lax") => site = "lax",
            ("samesite", "strict") => site = "strict",
            ("samesite", "none") => site = "none",
            ("path", path) if path.starts_with('/') => keys.push(("path", toml_text(path))),
            ("domain", domain) if !domain.is_empty() && !domain.contains('$') => {
                keys.push(("domain", toml_text(domain)));
            }
            _ => leave_out(draft, &format!("`{word}` is left out, the cookie is not")),
        }
    }
    if site == "none" && secure == "false" {
        leave_out(
            draft,
            "browsers refuse `SameSite=None` without `Secure`: `secure` it is",
        );
        secure = "true";
    }
    // If the browser drops the cookie at once, only the server's part remains.
    if age == "0s"
        && directive
            .args()
            .iter()
            .any(|word| word.starts_with("expires="))
    {
        leave_out(
            draft,
            "`expires=0`: the cookie lasts until the browser ends",
        );
    }
    let text = format!(
        "`{}`: the cookie is signed, so each client begins a new session once; the app no longer sees it, and where no `path` is \
         said, it is `/`",
        directive.line()
    );
    draft.notices.tell_difference(&directive.place, text);
    keys.push(("max_age", toml_text(&age)));
    keys.push(("same_site", toml_text(site)));
    keys.push(("secure", secure.to_owned()));
    draft.sections.push(("sticky", keys));
}
