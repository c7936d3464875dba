//! `rewrite` and `if`, in a location or before all of them.

use super::conditions::{RequestTest, read_condition};
use super::location::{LocationPlan, LocationPlanner, PathChange, PlanVariant, pass_of};
use super::targets::read_end;
use super::values::ValueReader;
use crate::tools::import::draft::DraftPath;
use crate::tools::import::nginx::model::{LocationKind, NginxLocation};
use crate::tools::import::nginx::pcre::{escape_regex, translate_regex};
use crate::tools::import::nginx::scope::NginxScope;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;
use crate::tools::import::offered;

impl<'a> LocationPlanner<'_, 'a> {
    /// `rewrite` in a location.
    pub(super) fn read_rewrite(
        &self,
        location: &NginxLocation<'a>,
        directive: &NginxDirective,
        plan: &mut LocationPlan,
    ) -> Result<(), String> {
        let values = self.values(&location.scope, true);
        let pattern = translate_regex(directive.arg(0), false)?;
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
        let bare = target.strip_suffix('?').unwrap_or(target);
        if bare != target {
            plan.notices
                .push(directive.difference("the query of the request goes with it"));
        }
        let change = PathChange::Rewrite {
            regex: whole_match(&pattern),
            to: values.read(bare)?,
        };
        offered::check_key("rewrite", &change.rewrite_value()).map_err(|why| why.to_string())?;
        plan.change = change;
        Ok(())
    }

    /// Whether a path that is rewritten could be another location's.
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

    /// An `if` that ends requests.
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
                let pattern = translate_regex(end.arg(0), false)?;
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

/// An expression that fits the whole of what the other one has a match in.
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

/// An expression for those paths of a location that the other one has a match in.
pub(super) fn within(location: &NginxLocation<'_>, pattern: &str) -> Result<String, String> {
    let (flags, bare) = match pattern.strip_prefix("(?i)") {
        Some(bare) => ("(?i)", bare),
        None => ("", pattern),
    };
    if location.path == "/" {
        return Ok(pattern.to_owned());
    }
    let escaped = escape_regex(location.path);
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

/// Says whose word a condition takes, where it is about what proxies tell.
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

/// What an `if` that can't be said is told as.
pub(super) fn judge_if(directive: &NginxDirective, why: &str) -> Option<ImportNotice> {
    let inner = directive.inner();
    let is_silent = inner.iter().all(|d| ["set", "break"].contains(&d.name()));
    (!is_silent).then(|| {
        let lines: Vec<_> = inner.iter().map(NginxDirective::line).collect();
        let text = format!("`{}` {{ {} }}: {why}", directive.line(), lines.join("; "));
        ImportNotice::left_out(&directive.place, text)
    })
}
