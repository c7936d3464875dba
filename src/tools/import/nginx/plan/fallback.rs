//! Files with an app as the fallback: `try_files … @app`, and `if (!-f $request_filename)`.

use super::files::{FilesEnd, read_files};
use super::guards::read_guards;
use super::location::{LocationPlanner, pass_of};
use super::values::ValueReader;
use crate::tools::import::draft::DraftKeys;
use crate::tools::import::nginx::model::NginxLocation;
use crate::tools::import::nginx::scope::NginxScope;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;

/// Action for requests for which a location has no file.
pub(super) struct BehindFiles<'a> {
    /// Directive that sends the request there.
    pub directive: &'a NginxDirective,
    pub pass: &'a NginxDirective,
    pub scope: NginxScope<'a>,
    /// Keys for the files, if they can be imported; otherwise a notice says why not.
    pub files: Option<DraftKeys>,
    /// Keys for restrictions of access there.
    pub guards: DraftKeys,
    /// Fields that are also passed on.
    pub passed: Vec<String>,
    pub notices: Vec<ImportNotice>,
}

/// Steps of `try` that `if (!-f $request_filename) { proxy_pass …; }` stands for.
pub(super) fn tested_steps(directive: &NginxDirective) -> Option<&'static [&'static str]> {
    let test = directive.args().join(" ");
    let test = test.trim_start_matches('(').trim_end_matches(')').trim();
    let passes = directive.inner().iter().any(|d| d.name() == "proxy_pass");
    let is_bare = directive
        .inner()
        .iter()
        .all(|d| ["proxy_pass", "break"].contains(&d.name()));
    match test {
        _ if !passes || !is_bare => None,
        "!-f $request_filename" => Some(&["{path}"]),
        "!-e $request_filename" => Some(&["{path}", "{path}/"]),
        _ => None,
    }
}

impl<'a> LocationPlanner<'_, 'a> {
    /// Fallback of a location's files, if it passes requests on.
    pub(super) fn behind_files(
        &self,
        location: &NginxLocation<'a>,
        values: &ValueReader<'_, '_>,
        head: &str,
    ) -> Result<Option<BehindFiles<'a>>, ImportNotice> {
        let scope = &location.scope;
        let mut tests = location.directive.inner().iter();
        let tested = tests.find_map(|d| Some((d, tested_steps(d)?)));
        if let Some((test, steps)) = tested {
            let inner = scope.enter(test.inner());
            let Some(pass) = pass_of(&inner) else {
                return Ok(None);
            };
            let mut behind = BehindFiles {
                directive: test,
                pass,
                scope: inner,
                files: None,
                guards: Vec::new(),
                passed: Vec::new(),
                notices: Vec::new(),
            };
            let names = self.index_of(location, &mut behind.notices);
            behind.add_files(
                location,
                values,
                (FilesEnd::Tested(steps), &names),
                "the app",
            );
            let says = "what is neither GET nor HEAD goes to the app; nginx says 405 where there is such a file";
            behind.notices.push(test.difference(says));
            return Ok(Some(behind));
        }
        let Some((tried, named)) = self.find_fallback(scope) else {
            return Ok(None);
        };
        let Some(pass) = pass_of(&named.scope) else {
            return Ok(None);
        };
        let more = read_guards(self.site, self.server, &named.scope, head)?;
        let mut behind = BehindFiles {
            directive: tried,
            pass,
            scope: named.scope.clone(),
            files: None,
            guards: more.keys,
            passed: more.passed,
            notices: more.notices,
        };
        let judged = named.directive.inner().iter().filter_map(super::judge);
        behind.notices.extend(judged);
        let names = self.index_of(location, &mut behind.notices);
        behind.add_files(location, values, (FilesEnd::Named, &names), named.path);
        if behind.files.is_some() {
            behind.tell_shared(scope, named);
            if tried.name() == "error_page" {
                let says = "a directory without an index goes to the app, and so does what is neither GET nor HEAD; nginx \
                            says 403 and 405";
                behind.notices.push(tried.difference(says));
            }
        }
        Ok(Some(behind))
    }

    /// Target of `try_files … @name` for requests without a file.
    fn find_fallback<'s>(
        &'s self,
        scope: &NginxScope<'a>,
    ) -> Option<(&'a NginxDirective, &'s NginxLocation<'a>)> {
        let (files, name) = match scope.own_directive("try_files") {
            Some(tried) => (tried, tried.args().last()?),
            None => fallback_page(scope)?,
        };
        if !name.starts_with('@') {
            return None;
        }
        let mut locations = self.server.locations.iter();
        let named = locations.find(|other| other.path == name.as_str())?;
        Some((files, named))
    }
}

/// Target of `error_page 404 = @name`, if the location serves files.
fn fallback_page<'a>(scope: &NginxScope<'a>) -> Option<(&'a NginxDirective, &'a String)> {
    let mut pages = scope.all("error_page").into_iter();
    let found = pages.find_map(|page| match page.args() {
        [code, sign, name] if code == "404" && sign == "=" => Some((page, name)),
        _ => None,
    })?;
    (!scope.all_of(&["root", "alias"]).is_empty()).then_some(found)
}

impl<'a> BehindFiles<'a> {
    fn add_files(
        &mut self,
        location: &NginxLocation<'_>,
        values: &ValueReader<'_, '_>,
        (end, names): (FilesEnd, &[String]),
        app: &str,
    ) {
        match read_files(location, values, end, names) {
            Ok(found) => {
                self.notices.extend(found.notices);
                self.files = Some(found.keys);
            }
            Err(why) => {
                let says = format!("no files are looked for: every request goes to {app}: {why}");
                self.notices.push(self.directive.refusal(&says));
            }
        }
    }

    /// Reports header fields that nginx adds only to files or only to the app's responses, because one route serves
    /// both.
    fn tell_shared(&mut self, files: &NginxScope<'a>, app: &NginxLocation<'a>) {
        let fields = |scope: &NginxScope<'a>| -> Vec<String> {
            let added = ["add_header", "more_set_headers", "more_clear_headers"];
            let all = added.iter().flat_map(|name| scope.all(name));
            all.map(|field| field.args().join(" ")).collect()
        };
        let (own, theirs) = (fields(files), fields(&app.scope));
        if own == theirs {
            return;
        }
        let mut differ: Vec<_> = own.iter().filter(|field| !theirs.contains(field)).collect();
        differ.extend(theirs.iter().filter(|field| !own.contains(field)));
        let words = differ.iter().filter_map(|field| field.split(' ').next());
        let words: Vec<_> = words.map(|word| word.trim_end_matches(':')).collect();
        let says = format!(
            "files have the fields of {}, and not the location's own: {}",
            app.path,
            words.join(", ")
        );
        self.notices.push(self.directive.difference(&says));
    }
}
