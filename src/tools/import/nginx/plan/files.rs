//! Files: `root`, `alias`, `index`, `try_files`, `expires`.

use std::time::Duration;

use super::headers::cache_control;
use super::values::ValueReader;
use crate::tools::import::draft::{DraftKeys, toml_list, toml_table, toml_text};
use crate::tools::import::nginx::model::{LocationKind, NginxLocation};
use crate::tools::import::nginx::scope::read_time;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;
use crate::tools::import::offered;

/// The longest `cache`.
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// What is done with a request for which there is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilesEnd {
    /// It gets 404, or what `try_files` says.
    Here,
    /// It goes to the location that `try_files` names last.
    Named,
    /// `if (!-f $request_filename)` passes it on: only these are looked for.
    Tested(&'static [&'static str]),
}

/// What serves the files of a location.
#[derive(Debug)]
pub(super) struct FilesPlan {
    pub keys: DraftKeys,
    /// What the path begins with that is not in the files' names: `alias`.
    pub stripped: Option<String>,
    pub notices: Vec<ImportNotice>,
}

/// Reads a location that serves files.
///
/// # Errors
/// lameduck can't serve them; why not.
pub(super) fn read_files(
    location: &NginxLocation<'_>,
    values: &ValueReader<'_, '_>,
    end: FilesEnd,
) -> Result<FilesPlan, String> {
    if !offered::has_route_key("files") {
        return Err("lameduck serves no files".into());
    }
    let scope = &location.scope;
    let mut notices = Vec::new();
    let alias = scope.own("alias");
    let root = alias.or_else(|| scope.last("root"));
    let root = match root {
        Some(directive) => values.read_fixed(directive.arg(0))?,
        None => return Err("it has no `root`".into()),
    };
    let root = match root.trim_end_matches('/') {
        "" => "/",
        root => root,
    };
    // One file under a name of its own.
    let single =
        alias.filter(|_| location.kind == LocationKind::Exact && !location.path.ends_with('/'));
    let (root, single) = match single.and_then(|_| root.rsplit_once('/')) {
        Some(("", file)) => ("/", Some(file)),
        Some((dir, file)) => (dir, Some(file)),
        None => (root, None),
    };
    let mut fields = vec![("root".to_owned(), toml_text(root))];
    let index = scope.last("index");
    let names: Vec<String> = match index {
        Some(index) => index.args().to_vec(),
        None => vec!["index.html".to_owned()],
    };
    if let Some(odd) = names
        .iter()
        .find(|name| name.starts_with('/') || name.contains('$'))
    {
        return Err(format!("`index {odd}` leads elsewhere"));
    }
    fields.push(("index".to_owned(), toml_list(&names)));
    if let Some(file) = single {
        fields.push(("try".to_owned(), toml_list(&[format!("/{file}")])));
    } else if let FilesEnd::Tested(steps) = end {
        let steps: Vec<_> = steps.iter().map(|step| (*step).to_owned()).collect();
        fields.push(("try".to_owned(), toml_list(&steps)));
    } else if let Some(tried) = scope.last("try_files") {
        fields.push((
            "try".to_owned(),
            toml_list(&read_try(tried, end, &mut notices)?),
        ));
    }
    let packed = ["gzip_static", "brotli_static", "zstd_static"];
    let packed = packed.iter().filter_map(|name| scope.last(name));
    let packed: Vec<_> = packed.filter(|d| d.arg(0) != "off").collect();
    for directive in packed.iter().filter(|d| d.arg(0) == "always") {
        notices.push(directive.refusal("a client gets what it takes: `on`"));
    }
    if !packed.is_empty() {
        fields.push(("precompressed".to_owned(), "true".to_owned()));
    }
    if let Some(expires) = scope.last("expires").filter(|d| d.arg(0) != "off") {
        read_expires(expires, &mut fields, &mut notices);
    }
    for name in ["types", "default_type", "charset"] {
        // The list that nginx brings along is what lameduck's own is like.
        let is_own = |d: &&NginxDirective| {
            !d.place.file.ends_with("mime.types")
                && !["off", "application/octet-stream", "utf-8", "UTF-8"].contains(&d.arg(0))
        };
        if let Some(directive) = scope.last(name).filter(is_own) {
            let says = "a file's type goes by its name, texts are UTF-8";
            notices.push(directive.difference(says));
        }
    }
    if let Some(directive) = scope.last("gzip").filter(|d| d.arg(0) == "on") {
        let says = "a range of a file goes as it is (206); nginx sends the whole, compressed (200)";
        notices.push(directive.difference(says));
    }
    if scope.value("autoindex") == "on"
        && let Some(directive) = scope.last("autoindex")
    {
        notices.push(directive.refusal("lameduck lists no directories"));
    }
    let keys = vec![("files", toml_table(&fields))];
    offered::check_route(&keys, &[])?;
    let is_stripped = alias.is_some() && single.is_none();
    if is_stripped && end != FilesEnd::Here {
        return Err("`alias` changes the path for the files, and not for the app".into());
    }
    let stripped = is_stripped.then(|| location.path.to_owned());
    Ok(FilesPlan {
        keys,
        stripped,
        notices,
    })
}

/// `try_files`, its last word apart: that is where the request goes, or a status.
fn read_try(
    directive: &NginxDirective,
    end: FilesEnd,
    notices: &mut Vec<ImportNotice>,
) -> Result<Vec<String>, String> {
    let mut tried = Vec::new();
    for (n, word) in directive.args().iter().enumerate() {
        let is_last = n + 1 == directive.args().len();
        let bare = word.split('?').next().unwrap_or(word);
        let text = bare
            .replace("$uri", "{path}")
            .replace("$document_uri", "{path}");
        match word.as_str() {
            "=404" if is_last => {}
            word if word.starts_with('=') => {
                return Err(format!("`{word}`: only =404 is carried over"));
            }
            word if word.starts_with('@') && is_last && end == FilesEnd::Named => {
                let app = if tried.iter().any(|step: &String| step.ends_with('/')) {
                    "a directory without an index goes to the app, and so does what is neither GET nor HEAD; nginx says \
                     403 and 405"
                } else {
                    "what is neither GET nor HEAD goes to the app; nginx says 405 where there is such a file"
                };
                notices.push(directive.difference(app));
            }
            word if word.starts_with('@') => {
                return Err(format!("`{word}`: it passes no requests on"));
            }
            _ if text.contains('$') => return Err(format!("`{word}` has variables")),
            word => {
                if is_last && bare != word {
                    notices.push(directive.difference(
                        "what stands behind the question mark is no part of a file's name",
                    ));
                }
                if is_last && bare.ends_with(".php") {
                    return Err(format!("`{word}` is a program"));
                }
                tried.push(text);
            }
        }
    }
    match tried.is_empty() {
        true => Err("it names no file".into()),
        false => Ok(tried),
    }
}

fn read_expires(
    expires: &NginxDirective,
    fields: &mut Vec<(String, String)>,
    notices: &mut Vec<ImportNotice>,
) {
    let time = match expires.arg(0) {
        // A year is as good as for ever, and the most that lameduck says.
        "max" => Some(YEAR),
        word => read_time(word),
    };
    let time = time.map(|time| {
        if time >= YEAR {
            notices.push(expires.difference("a year is the most that lameduck says"));
        }
        crate::config::duration::format(time.min(YEAR))
    });
    match (time, cache_control(expires)) {
        (Some(time), Some(_)) => {
            fields.push(("cache".to_owned(), toml_text(&time)));
            notices.push(expires.difference("lameduck sends Cache-Control, and no Expires"));
        }
        _ => notices.push(expires.refusal("only a time from now is carried over")),
    }
}
