//! `rewrite` and `if`, within a location or before all locations.

use super::conditions::{RequestTest, read_condition};
use super::location::{LocationPlan, LocationPlanner, PathChange, PlanVariant, pass_of};
use super::targets::read_end;
use super::values::ValueReader;
use crate::tools::import::draft::DraftPath;
use crate::tools::import::nginx::model::{LocationKind, NginxLocation};
use crate::tools::import::nginx::pcre::{encode_path, escape_regex, translate_path_regex};
use crate::tools::import::nginx::scope::NginxScope;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;
use crate::tools::import::offered;

impl<'a> LocationPlanner<'_, 'a> {
    /// Plans a `rewrite` in a location.
    pub(super) fn read_rewrite(
        &self,
        location: &NginxLocation<'a>,
        directive: &NginxDirective,
        plan: &mut LocationPlan,
    ) -> Result<(), String> {
        if (directive.arg(0), directive.arg(1), directive.arg(2)) == ("^", "$request_uri", "") {
            let says = "the path is as the client sent it anyway; where that has two slashes, nginx may say 404 or 405";
            plan.notices.push(directive.difference(says));
            return Ok(());
        }
        let values = self.values(&location.scope, true);
        let pattern = translate_path_regex(directive.arg(0), false)?;
        let is_whole = super::redirect::whole_rewrite(std::slice::from_ref(directive)).is_some();
        let (flag, target) = (directive.arg(2), directive.arg(1));
        if ["permanent", "redirect"].contains(&flag) || target.contains("://") {
            if is_whole && !target.contains('$') {
                plan.keys = read_end(directive, &values, &mut plan.notices)?;
                return Ok(());
            }
            let keys = read_end(directive, &values, &mut plan.notices)?;
            plan.variants.push(PlanVariant {
                test: RequestTest {
                    path: Some(DraftPath::Regex(within(location, &pattern)?)),
                    ..RequestTest::default()
                },
                keys,
                pools: Vec::new(),
                change: PathChange::None,
            });
            return Ok(());
        }
        if !offered::has_route_key("rewrite") {
            return Err("lameduck passes paths as they are".into());
        }
        if flag != "break" && pass_of(&location.scope).is_none() {
            return Err("nginx looks for a location again, lameduck does not".into());
        }
        if flag != "break" && self.is_elsewhere(location, target) {
            return Err("nginx looks for a location again, lameduck does not".into());
        }
        if plan.change != PathChange::None {
            return Err("a route has one `rewrite`".into());
        }
        let change = PathChange::Rewrite {
            regex: whole_match(&pattern),
            to: super::targets::with_query(directive, target, &values, &mut plan.notices)?,
        };
        offered::check_key("rewrite", &change.rewrite_value()).map_err(|why| why.to_string())?;
        plan.change = change;
        Ok(())
    }

    /// Whether a rewritten path could belong to another location.
    fn is_elsewhere(&self, location: &NginxLocation<'a>, target: &str) -> bool {
        let fixed = target.split('$').next().unwrap_or_default();
        let others = self.server.locations.iter();
        let mut others = others.filter(|other| !std::ptr::eq(other.directive, location.directive));
        let is_own = location.kind != LocationKind::Regex && fixed.starts_with(location.path);
        !is_own
            || others.any(|other| match other.kind {
                LocationKind::Named => false,
                LocationKind::Regex => true,
                _ => {
                    other.path.starts_with(location.path) && other.path.len() > location.path.len()
                }
            })
    }

    /// Plans an `if` with a final response.
    pub(super) fn read_if(
        &self,
        directive: &'a NginxDirective,
        around: &NginxScope<'a>,
        values: &ValueReader<'_, '_>,
    ) -> Result<Vec<PlanVariant>, String> {
        let mut end = None;
        for inner in directive.inner() {
            match inner.name() {
                "return" => end = end.or(Some(inner)),
                "rewrite" if ["permanent", "redirect"].contains(&inner.arg(2)) => {
                    end = end.or(Some(inner))
                }
                "set" | "break" | "add_header" | "access_log" | "default_type"
                | "more_set_headers" => {}
                other => return Err(format!("`{other}` under a condition")),
            }
        }
        let end = end.ok_or("it only sets variables")?;
        let tests = read_condition(directive, self.server, self.site)?;
        let inner_scope = around.enter(directive.inner());
        let inner_values = ValueReader {
            scope: &inner_scope,
            ..*values
        };
        let mut variants = Vec::new();
        for mut test in tests {
            let mut plan = LocationPlan::default();
            let mut end = end.clone();
            if !test.groups.is_empty() {
                for word in &mut end.words {
                    *word = test.fill_groups(word);
                }
            }
            let mut values = inner_values;
            if end.name() == "rewrite" {
                let pattern = translate_path_regex(end.arg(0), false)?;
                if super::redirect::whole_rewrite(std::slice::from_ref(&end)).is_none()
                    || end.arg(1).contains("$1")
                {
                    if test.path.is_some() {
                        return Err("its path is asked for twice".into());
                    }
                    test.path = Some(DraftPath::Regex(pattern));
                }
            }
            values.has_groups = matches!(test.path, Some(DraftPath::Regex(_))) || values.has_groups;
            plan.keys = read_end(&end, &values, &mut plan.notices)?;
            self.add_answer_changes(&values, false, &mut plan);
            let mut keys = test.keys.clone();
            keys.extend(test.path.iter().filter_map(|path| path.key()));
            keys.extend(plan.keys.iter().cloned());
            if !values.has_groups || test.path.is_some() {
                offered::check_route(&keys, &[])?;
            }
            variants.push(PlanVariant {
                test,
                keys: plan.keys,
                pools: Vec::new(),
                change: PathChange::None,
            });
        }
        Ok(variants)
    }
}

/// An expression that matches the whole path if the given one matches a part of it.
fn whole_match(pattern: &str) -> String {
    let (flags, bare) = match pattern.strip_prefix("(?i)") {
        Some(bare) => ("(?i)", bare),
        None => ("", pattern),
    };
    let has_choice = bare.contains('|');
    let head = if bare.starts_with('^') && !has_choice {
        ""
    } else {
        "^.*?"
    };
    let tail = if bare.ends_with('$') && !has_choice {
        ""
    } else {
        ".*$"
    };
    match (head, tail) {
        ("", "") => pattern.to_owned(),
        _ => format!("{flags}{head}(?:{bare}){tail}"),
    }
}

/// An expression for the paths of a location that the given one matches.
pub(super) fn within(location: &NginxLocation<'_>, pattern: &str) -> Result<String, String> {
    let (flags, bare) = match pattern.strip_prefix("(?i)") {
        Some(bare) => ("(?i)", bare),
        None => ("", pattern),
    };
    if location.path == "/" {
        return Ok(pattern.to_owned());
    }
    let escaped = escape_regex(&encode_path(location.path));
    match bare.strip_prefix('^') {
        _ if location.kind == LocationKind::Regex || location.kind == LocationKind::Exact => {
            Err("two expressions can't be asked for at once".into())
        }
        Some(rest) if rest.starts_with(&escaped) || rest.starts_with(location.path) => {
            Ok(pattern.to_owned())
        }
        Some(_) => Err("what it looks for is not within the location".into()),
        None => Ok(format!("{flags}^{escaped}.*(?:{bare})")),
    }
}

/// Restricts variants with paths of their own to the location's paths.
pub(super) fn narrow_variants(
    location: &NginxLocation<'_>,
    variants: Vec<PlanVariant>,
) -> Result<Vec<PlanVariant>, String> {
    let mut narrowed = Vec::new();
    for mut variant in variants {
        let is_exact = location.kind == LocationKind::Exact;
        variant.test.path = match variant.test.path.take() {
            None => None,
            Some(DraftPath::Exact(path)) => match location.kind {
                LocationKind::Regex => return Err("two paths can't be asked for at once".into()),
                _ if path == location.path => None,
                _ if is_exact || !path.starts_with(location.path) => continue,
                _ => Some(DraftPath::Exact(path)),
            },
            Some(DraftPath::Regex(pattern)) if is_exact => {
                let regex = regex::Regex::new(&pattern).map_err(|error| error.to_string())?;
                if !regex.is_match(&encode_path(location.path)) {
                    continue;
                }
                let has_group = |(_, value): &(&str, String)| value.contains("$1");
                if variant.keys.iter().any(has_group) {
                    return Err("a route has one path, and so no groups of another".into());
                }
                None
            }
            Some(DraftPath::Regex(pattern)) => Some(DraftPath::Regex(within(location, &pattern)?)),
            Some(path) => Some(path),
        };
        narrowed.push(variant);
    }
    Ok(narrowed)
}

/// Notice about trusted proxies, for a condition on a field that proxies set.
pub(super) fn judge_trust(directive: &NginxDirective) -> Option<ImportNotice> {
    let line = directive.line().to_ascii_lowercase();
    let told = ["$http_x_forwarded_", "$http_x_real_ip"];
    let is_told = told.iter().any(|name| line.contains(name));
    is_told.then(|| {
        directive.difference(
            "it holds only for what those in `[headers] trusted` say: name your balancer there",
        )
    })
}

/// Notices for an imported `if`: which proxies it trusts, and whether it matches less or more than in nginx.
pub(super) fn judge_condition(directive: &NginxDirective) -> Vec<ImportNotice> {
    let mut notices: Vec<_> = judge_trust(directive).into_iter().collect();
    let test = directive.args().join(" ");
    let test = test.trim_start_matches('(').trim_end_matches(')').trim();
    let mut words = test.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (variable, sign, value) = (word(), word(), word());
    // The condition is on the start of a path, so the rest does not matter.
    let begins = value.trim_matches('"').strip_prefix("^/");
    let is_begin = begins.is_some_and(|rest| {
        rest.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/-_".contains(&b))
    });
    let says = match variable {
        "$request_uri" if sign == "=" || !is_begin => {
            "it asks of the path alone; nginx asks of the query, too"
        }
        "$request_method" if sign.starts_with('!') => {
            "a method that nobody has registered does not count as another"
        }
        _ => return notices,
    };
    let end: Vec<_> = directive.inner().iter().map(NginxDirective::line).collect();
    let line = format!("`{}` {{ {} }}", directive.line(), end.join("; "));
    let text = format!("{line}: {says}");
    notices.push(ImportNotice::differs(&directive.place, text));
    notices
}

/// Notice for an `if` that can't be imported; `level` is where it is. An `if` that only sets variables is reported
/// where they are used, and one that ends a rewrite affects later directives.
pub(super) fn judge_if(
    level: &[NginxDirective],
    directive: &NginxDirective,
    why: &str,
) -> Option<ImportNotice> {
    let inner = directive.inner();
    let behind = level.iter().skip_while(|d| !std::ptr::eq(*d, directive));
    let followed = behind
        .skip(1)
        .find(|d| ["return", "rewrite", "if"].contains(&d.name()));
    let breaks = inner.iter().any(|d| d.name() == "break");
    let is_silent = inner.iter().all(|d| ["set", "break"].contains(&d.name()));
    let followed = followed.filter(|_| breaks && is_silent);
    (!is_silent || followed.is_some()).then(|| {
        let lines: Vec<_> = inner.iter().map(NginxDirective::line).collect();
        let mut text = format!("`{}` {{ {} }}: {why}", directive.line(), lines.join("; "));
        if let Some(followed) = followed {
            text.push_str(&format!("; `{}` is done all the same", followed.line()));
        }
        ImportNotice::left_out(&directive.place, text)
    })
}
