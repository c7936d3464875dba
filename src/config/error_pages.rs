//! `error_pages`: files that are sent instead of a response without content, by status code or class.

use super::forms::{KeyContext, SpannedProblems, ValueForm};
use super::print;
use super::reader::{ConfigFindings, ValueError};
use super::values::{ValueResult, file_path, no_table, quoted, text};
use super::{Config, Route};
use std::path::PathBuf;
use std::sync::Arc;
use toml::Spanned;
use toml::de::DeValue;

/// The responses that a page is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageStatus {
    /// Responses with this status code.
    One(u16),
    /// Responses from 400 to 499, or from 500 to 599: the first digit.
    Class(u16),
}

impl PageStatus {
    /// Whether the page is for responses with this status code.
    pub fn covers(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(first) => status / 100 == first,
        }
    }

    fn read(name: &str) -> Option<Self> {
        match name.as_bytes() {
            [first @ (b'4' | b'5'), b'x' | b'X', b'x' | b'X'] => {
                Some(Self::Class(u16::from(first - b'0')))
            }
            [b'4' | b'5', _, _] => name.parse().ok().map(Self::One),
            _ => None,
        }
    }

    fn shown(self) -> String {
        match self {
            Self::One(status) => status.to_string(),
            Self::Class(first) => format!("{first}xx"),
        }
    }
}

/// A page, and the responses that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPage {
    /// The responses.
    pub status: PageStatus,
    /// Path of the file.
    pub path: PathBuf,
    /// Contents of the file when the configuration was read.
    pub content: Arc<[u8]>,
}

/// The pages of a route, or of all routes: those for a single status code come first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorPages(pub Vec<ErrorPage>);

impl ErrorPages {
    /// Returns the page for a status code.
    pub fn find(&self, status: u16) -> Option<&ErrorPage> {
        self.0.iter().find(|page| page.status.covers(status))
    }

    /// Whether there are no pages.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Form of a table of files by status code.
pub(super) struct PageTable;

impl ValueForm<ErrorPages> for PageTable {
    fn name(&self) -> String {
        "table of paths".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<ErrorPages> {
        let example = "{ \"502\" = \"/etc/lameduck/502.html\" }";
        Err(no_table(key.name, value, "paths", example))
    }

    fn print(&self, pages: &ErrorPages) -> String {
        print::table_of(pages.0.iter().map(|page| {
            let path = page.path.display().to_string();
            (print::text(&page.status.shown()), print::text(&path))
        }))
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<ErrorPages> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.read_at(key, value, problems);
        };
        let mut pages: Vec<ErrorPage> = Vec::new();
        for (name, path) in table.iter() {
            let Some(status) = PageStatus::read(name.get_ref()) else {
                let problem = ValueError::new(
                    format!(
                        "`{}` has {}: it is no status of an error",
                        key.name,
                        quoted(name.get_ref())
                    ),
                    "write a status from 400 to 599, such as \"502\", or a class: \"4xx\" or \"5xx\"",
                );
                problems.push((name.span(), problem));
                continue;
            };
            if pages.iter().any(|page| page.status == status) {
                let problem = ValueError::new(
                    format!("`{}` has \"{}\" twice", key.name, status.shown()),
                    "remove one of them",
                );
                problems.push((name.span(), problem));
                continue;
            }
            let file =
                text(&status.shown(), path.get_ref(), "/etc/lameduck/502.html").and_then(|file| {
                    match file {
                        "" => Err(ValueError::new(
                            format!("`{}` names no file for \"{}\"", key.name, status.shown()),
                            "write the path of a page, such as \"/etc/lameduck/502.html\"",
                        )),
                        file => file_path(key.name, file, key.base),
                    }
                });
            match file {
                Ok(path) => pages.push(ErrorPage {
                    status,
                    path,
                    content: Arc::default(),
                }),
                Err(problem) => problems.push((path.span(), problem)),
            }
        }
        pages.sort_by_key(|page| page.status);
        Some(ErrorPages(pages))
    }
}

/// Checks that `intercept` has pages to replace the app's responses with.
pub(super) fn validate(config: &Config, f: &mut ConfigFindings) {
    for (i, route) in config.routes.iter().enumerate() {
        let at = |key: &str| format!("route[{i}].{key}");
        if !route.intercept
            || !f.sound(&[&at("intercept"), &at("error_pages"), "server.error_pages"])
        {
            continue;
        }
        if route.pool.is_none() && route.split.is_empty() {
            f.error(
                f.place(&at("intercept")),
                "`intercept` is about the app's answers, and no app answers this route",
                "remove it: `error_pages` alone is for lameduck's own answers",
            );
        } else if route.error_pages.is_empty() && config.server.error_pages.is_empty() {
            f.error(
                f.place(&at("intercept")),
                "`intercept` is on, and there are no `error_pages` to send in the place of the app's answers",
                "add `error_pages` to the route or to [server], such as `error_pages = { \"5xx\" = \"/etc/lameduck/5xx.html\" }`",
            );
        }
    }
}

impl Config {
    /// Returns the page for a status code on a route: the route's own, else that of `[server]`.
    pub fn error_page<'a>(
        &'a self,
        status: u16,
        route: Option<&'a Route>,
    ) -> Option<&'a ErrorPage> {
        let own = route.and_then(|route| route.error_pages.find(status));
        own.or_else(|| self.server.error_pages.find(status))
    }
}
