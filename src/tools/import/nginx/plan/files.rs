//! Static files: `root`, `alias`, `index`, `try_files` and `expires`.

use std::time::Duration;

use super::headers::cache_control;
use super::location::PathChange;
use super::values::ValueReader;
use crate::tools::import::draft::{DraftKeys, toml_list, toml_table, toml_text};
use crate::tools::import::nginx::model::{LocationKind, NginxLocation};
use crate::tools::import::nginx::scope::read_time;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;
use crate::tools::import::offered;

/// Longest `cache`.
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Switches for nginx's files, each with its default, and with its fixed value in lameduck.
const SWITCHES: [(&str, &str, &str); 4] = [
    (
        "etag",
        "on",
        "files have an ETag, and If-None-Match is obeyed: 304",
    ),
    (
        "if_modified_since",
        "exact",
        "If-Modified-Since holds for the very date, as `exact` has it: 304 or 200",
    ),
    (
        "max_ranges",
        "",
        "ranges of a file are sent (206, Content-Range, Accept-Ranges), up to 64 of them",
    ),
    (
        "disable_symlinks",
        "off",
        "links are followed where they stay below the root; others get 404, and nginx says 403",
    ),
];

/// Action for a request without a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilesEnd {
    /// 404, or the result of `try_files`.
    Here,
    /// The location that `try_files` names last.
    Named,
    /// `if (!-f $request_filename)` passes the request on; only these steps are tried.
    Tested(&'static [&'static str]),
}

/// Plan for the files of a location.
#[derive(Debug)]
pub(super) struct FilesPlan {
    pub keys: DraftKeys,
    /// Change of the path for a file below the root, from `alias`.
    pub change: PathChange,
    pub notices: Vec<ImportNotice>,
}

/// Plans a location that serves files; `names` are those of its `index`.
///
/// # Errors
/// Reason why lameduck can't serve them.
pub(super) fn read_files(
    location: &NginxLocation<'_>,
    values: &ValueReader<'_, '_>,
    end: FilesEnd,
    names: &[String],
) -> Result<FilesPlan, String> {
    if !offered::has_route_key("files") {
        return Err("lameduck serves no files".into());
    }
    let scope = &location.scope;
    let mut notices = Vec::new();
    let FileRoot {
        dir,
        change,
        single,
    } = FileRoot::read(location, values)?;
    if let Some(alias) = scope.own_directive("alias") {
        let ending = |name: &str| name.rsplit_once('.').map(|(_, ending)| ending.to_owned());
        if single
            .as_ref()
            .is_some_and(|file| ending(file) != ending(location.path))
        {
            let says =
                "its type goes by the file's name, and in nginx by the path: types, default_type";
            notices.push(alias.difference(says));
        }
        let is_open = !location.path.ends_with('/') && alias.arg(0).ends_with('/');
        if single.is_none() && location.kind != LocationKind::Regex && is_open {
            let says = format!(
                "{} itself is answered, and nginx redirects it: 301",
                location.path
            );
            notices.push(alias.difference(&says));
        }
    }
    let mut fields = vec![("root".to_owned(), toml_text(&dir))];
    if let Some(odd) = names
        .iter()
        .find(|name| name.starts_with('/') || name.contains('$'))
    {
        return Err(format!("`index {odd}` leads elsewhere"));
    }
    fields.push(("index".to_owned(), toml_list(names)));
    if let Some(file) = single {
        fields.push(("try".to_owned(), toml_list(&[format!("/{file}")])));
    } else if let FilesEnd::Tested(steps) = end {
        let steps: Vec<_> = steps.iter().map(|step| (*step).to_owned()).collect();
        fields.push(("try".to_owned(), toml_list(&steps)));
    } else if let Some(steps) = scope.own_level().iter().find_map(tested_rewrite) {
        if let Some(program) = steps.iter().find(|step| step.ends_with(".php")) {
            return Err(format!("`{program}` is a program"));
        }
        fields.push(("try".to_owned(), toml_list(&steps)));
    } else if let Some(tried) = scope.own_directive("try_files") {
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
        // nginx's default list of types is like lameduck's own.
        let is_own = |d: &&NginxDirective| {
            !d.place.file.ends_with("mime.types")
                && !["off", "application/octet-stream", "utf-8", "UTF-8"].contains(&d.arg(0))
        };
        if let Some(directive) = scope.last(name).filter(is_own) {
            let says = "a file's type goes by its name, texts are UTF-8";
            notices.push(directive.difference(says));
        }
    }
    for (name, usual, says) in SWITCHES {
        if let Some(directive) = scope.last(name).filter(|d| d.arg(0) != usual) {
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
    if change != PathChange::None && end != FilesEnd::Here {
        return Err("`alias` changes the path for the files, and not for the app".into());
    }
    Ok(FilesPlan {
        keys,
        change,
        notices,
    })
}

/// Steps of `try` for `if (!-e $request_filename) { rewrite ^ /index.html last; }`.
pub(super) fn tested_rewrite(directive: &NginxDirective) -> Option<Vec<String>> {
    let test = directive.args().join(" ");
    let test = test.trim_start_matches('(').trim_end_matches(')').trim();
    let steps: &[&str] = match (directive.name(), test) {
        ("if", "!-f $request_filename") => &["{path}"],
        ("if", "!-e $request_filename") => &["{path}", "{path}/"],
        _ => return None,
    };
    let ends = |d: &&NginxDirective| d.name() != "break";
    let mut inner = directive.inner().iter().filter(ends);
    let (rewrite, None) = (inner.next()?, inner.next()) else {
        return None;
    };
    let patterns = ["^", ".*", "^.*$", "^(.*)$", "^/(.*)$", "^(.+)$", "^.+$"];
    let to = rewrite.arg(1);
    let is_whole = rewrite.name() == "rewrite"
        && patterns.contains(&rewrite.arg(0))
        && ["last", "break"].contains(&rewrite.arg(2))
        && to.starts_with('/')
        && !to.contains(['$', '?']);
    let steps = steps.iter().map(|step| (*step).to_owned());
    is_whole.then(|| steps.chain([to.to_owned()]).collect())
}

/// Directory of a location's files.
struct FileRoot {
    dir: String,
    change: PathChange,
    /// The only file, which is served under all names.
    single: Option<String>,
}

impl FileRoot {
    fn read(location: &NginxLocation<'_>, values: &ValueReader<'_, '_>) -> Result<Self, String> {
        let found = location.scope.all_of(&["root", "alias"]);
        let directive = found.last().ok_or("it has no `root`")?;
        let bare = |dir: &str| match dir.trim_end_matches('/') {
            "" => "/".to_owned(),
            dir => dir.to_owned(),
        };
        let split = |path: &str| match path.rsplit_once('/') {
            Some((dir, name)) => Ok((bare(dir), name.to_owned())),
            None => Err(format!("\"{path}\" is relative to a directory of nginx's")),
        };
        let in_dir = |dir: String, change: PathChange| FileRoot {
            dir,
            change,
            single: None,
        };
        if directive.name() == "root" {
            let dir = values.read_fixed(directive.arg(0))?;
            return Ok(in_dir(bare(&dir), PathChange::None));
        }
        let alias = directive.arg(0);
        let is_own = location.scope.own_directive("alias").is_some();
        if location.kind == LocationKind::Regex && is_own {
            // The file's whole name is made from groups of the expression.
            let read = values.read(alias)?;
            let fixed = read.find(['$', '{']).unwrap_or(read.len());
            if fixed == read.len() {
                let (dir, name) = split(&read)?;
                return Ok(FileRoot {
                    dir,
                    change: PathChange::None,
                    single: Some(name),
                });
            }
            let (dir, _) = split(&read[..fixed])?;
            let rest = &read[read[..fixed].rfind('/').unwrap_or(0)..];
            return Ok(in_dir(dir, PathChange::Whole(rest.to_owned())));
        }
        let alias = values.read_fixed(alias)?;
        let from = location.root_path;
        let is_file = location.kind == LocationKind::Exact && is_own && !from.ends_with('/');
        if is_file {
            let (dir, name) = split(alias.trim_end_matches('/'))?;
            return Ok(FileRoot {
                dir,
                change: PathChange::None,
                single: Some(name),
            });
        }
        // nginx appends the rest of the path directly, whether or not there is a slash.
        let (dir, to) = match alias.ends_with('/') {
            true => (bare(&alias), "/".to_owned()),
            false => split(&alias).map(|(dir, name)| (dir, format!("/{name}")))?,
        };
        let from = from.to_owned();
        Ok(in_dir(dir, PathChange::Replace { from, to }))
    }
}

/// Steps of `try_files`, and its last word: a location or a status.
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
        // A year is as good as forever, and the longest time that lameduck supports.
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
