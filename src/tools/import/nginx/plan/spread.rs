//! Requests of one location that go to several pools: a variable of `split_clients` or `map` in `proxy_pass`, and
//! `mirror`.

use super::conditions::{RequestTest, field_pattern, read_condition};
use super::location::{LocationPlan, LocationPlanner, PlanVariant, pass_of, trim_request};
use super::passing_if::{SetByIf, set_by_if};
use super::pools::{PassTarget, PoolBook};
use super::values::{ValuePart, field_name, split_variables};
use crate::tools::import::draft::{DraftKeys, toml_list, toml_table, toml_text};
use crate::tools::import::nginx::model::NginxSite;
use crate::tools::import::nginx::pcre::{escape_regex, translate_regex};
use crate::tools::import::nginx::scope::{NginxScope, SetVariable};
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::offered;

/// A `proxy_pass` whose address has a variable that another block sets.
#[derive(Debug)]
pub(super) struct PassChoice<'a> {
    by: Chooser<'a>,
    /// Text before the variable.
    before: String,
    /// Text after the variable.
    after: String,
}

/// Source of the variable.
#[derive(Debug)]
enum Chooser<'a> {
    /// A block `split_clients` or `map`.
    Declared(&'a NginxDirective),
    Set(SetByIf<'a>),
}

/// A condition on requests, and the pool for those that meet it.
pub(super) type ChosenPool = (RequestTest, String);

impl<'a> PassChoice<'a> {
    /// The variable that chooses the target of a scope's requests, if there is one.
    pub(super) fn find(site: &NginxSite<'a>, scope: &NginxScope<'a>, base: &str) -> Option<Self> {
        let parts = split_variables(base);
        let at = parts.iter().position(|part| {
            matches!(part, ValuePart::Variable(name)
                if !matches!(scope.set_variable(name), SetVariable::Fixed(_)))
        })?;
        let ValuePart::Variable(name) = parts[at] else {
            return None;
        };
        let named = format!("${name}");
        let is_it = |d: &&NginxDirective| {
            ["map", "split_clients"].contains(&d.name())
                && d.args().last().is_some_and(|last| *last == named)
        };
        let by = match scope.set_variable(name) {
            SetVariable::Unset => Chooser::Declared(site.level.iter().find(is_it)?),
            _ => Chooser::Set(set_by_if(scope, name)?),
        };
        let text = |parts: &[ValuePart<'_>]| {
            let parts = parts.iter().map(|part| match part {
                ValuePart::Text(text) => (*text).to_owned(),
                ValuePart::Variable(name) => format!("${{{name}}}"),
            });
            parts.collect::<String>()
        };
        Some(PassChoice {
            by,
            before: text(&parts[..at]),
            after: text(&parts[at + 1..]),
        })
    }

    /// URL for one value of the variable.
    fn url(&self, value: &str) -> String {
        format!("{}{value}{}", self.before, self.after)
    }
}

impl<'a> LocationPlanner<'_, 'a> {
    /// Action for a location whose requests go to several pools, and the requests that a `map` sends elsewhere.
    ///
    /// # Errors
    /// Reason why routes can't express this.
    pub(super) fn spread(
        &self,
        choice: &PassChoice<'a>,
        pass: &'a NginxDirective,
        scope: &NginxScope<'a>,
        book: &mut PoolBook,
        plan: &mut LocationPlan,
    ) -> Result<Vec<ChosenPool>, String> {
        match &choice.by {
            Chooser::Set(set) => self.choose_set((choice, set), pass, scope, book, plan),
            Chooser::Declared(map) if map.name() == "map" => {
                self.choose((choice, map), pass, scope, book, plan)
            }
            Chooser::Declared(shares) => self
                .split((choice, shares), pass, scope, book, plan)
                .map(|()| Vec::new()),
        }
    }

    /// Reads `set $app blue; if ($cookie_stage = green) { set $app green; }`.
    fn choose_set(
        &self,
        (choice, set): (&PassChoice<'a>, &SetByIf<'a>),
        pass: &'a NginxDirective,
        scope: &NginxScope<'a>,
        book: &mut PoolBook,
        plan: &mut LocationPlan,
    ) -> Result<Vec<ChosenPool>, String> {
        let base = self.pool_of(&choice.url(set.base), pass, scope, book, plan)?;
        let mut chosen = Vec::new();
        for (test, value) in &set.cases {
            let pool = self.pool_of(&choice.url(value), pass, scope, book, plan)?;
            for test in read_condition(test, self.server, self.site)? {
                if test.path.is_some() {
                    return Err("its path is asked for twice".into());
                }
                let mut keys = test.keys.clone();
                keys.push(("pool", toml_text(&pool)));
                offered::check_route(&keys, std::slice::from_ref(&pool))?;
                chosen.push((test, pool.clone()));
            }
        }
        plan.keys.push(("pool", toml_text(&base)));
        Ok(chosen)
    }

    /// Pool for one value of the variable.
    fn pool_of(
        &self,
        url: &str,
        pass: &'a NginxDirective,
        scope: &NginxScope<'a>,
        book: &mut PoolBook,
        plan: &mut LocationPlan,
    ) -> Result<String, String> {
        let mut fixed = pass.clone();
        if let Some(word) = fixed.words.get_mut(1) {
            *word = self.values(scope, false).read_fixed(url)?;
        }
        if let Some(path) = PassTarget::read(&fixed)?.path {
            return Err(format!("it puts {path} in the place of the path"));
        }
        let (pool, notices) = book.book(self.site, &fixed, scope)?;
        plan.notices.extend(notices);
        if !plan.pools.contains(&pool) {
            plan.pools.push(pool.clone());
        }
        Ok(pool)
    }

    fn split(
        &self,
        (choice, shares): (&PassChoice<'a>, &'a NginxDirective),
        pass: &'a NginxDirective,
        scope: &NginxScope<'a>,
        book: &mut PoolBook,
        plan: &mut LocationPlan,
    ) -> Result<(), String> {
        let split_on = read_split_key(shares.arg(0))?;
        let mut left: u32 = 10_000;
        let mut weights: Vec<(String, u32)> = Vec::new();
        for row in shares.inner() {
            let weight = match row.name() {
                "*" => left,
                share => read_share(share).ok_or(format!("`{share}` is no share"))?,
            };
            left = left.checked_sub(weight).ok_or("it shares out too much")?;
            let pool = self.pool_of(&choice.url(row.arg(0)), pass, scope, book, plan)?;
            match weights.iter_mut().find(|(known, _)| *known == pool) {
                Some((_, known)) => *known += weight,
                None => weights.push((pool, weight)),
            }
        }
        if left > 0 {
            return Err("some of its requests go nowhere".into());
        }
        let is_whole = weights.iter().all(|(_, weight)| weight % 100 == 0);
        let scale = if is_whole { 100 } else { 1 };
        let fields: Vec<_> = weights
            .iter()
            .map(|(pool, weight)| (pool.clone(), (weight / scale).to_string()))
            .collect();
        plan.keys.push(("split", toml_table(&fields)));
        if split_on != "request" {
            plan.keys.push(("split_on", toml_text(&split_on)));
            let says = "who gets which pool is drawn anew, and then stays so";
            plan.notices.push(shares.difference(says));
        }
        offered::check_route(&plan.keys, &plan.pools)
    }

    fn choose(
        &self,
        (choice, map): (&PassChoice<'a>, &'a NginxDirective),
        pass: &'a NginxDirective,
        scope: &NginxScope<'a>,
        book: &mut PoolBook,
        plan: &mut LocationPlan,
    ) -> Result<Vec<ChosenPool>, String> {
        let rows = map.inner();
        let source = map.arg(0);
        let default = rows.iter().find(|row| row.name() == "default");
        let default = default.map_or("", |row| row.arg(0));
        if default.is_empty() {
            return Err("its `map` has no default".into());
        }
        let base = self.pool_of(&choice.url(default), pass, scope, book, plan)?;
        let is_option = |name: &str| ["default", "hostnames", "volatile"].contains(&name);
        let entries = rows.iter().filter(|row| !is_option(row.name()));
        // nginx compares texts before it tries expressions.
        let (regexes, texts): (Vec<_>, Vec<_>) =
            entries.partition(|row| row.name().starts_with('~'));
        let mut chosen = Vec::new();
        for row in texts.into_iter().chain(regexes) {
            if row.name().is_empty() && row.arg(0) == default {
                continue;
            }
            let test = self.map_test(source, row.name())?;
            let pool = self.pool_of(&choice.url(row.arg(0)), pass, scope, book, plan)?;
            let mut keys = test.keys.clone();
            keys.push(("pool", toml_text(&pool)));
            offered::check_route(&keys, std::slice::from_ref(&pool))?;
            chosen.push((test, pool));
        }
        plan.keys.push(("pool", toml_text(&base)));
        Ok(chosen)
    }

    /// Condition on a request for an entry of a `map`.
    fn map_test(&self, source: &str, entry: &str) -> Result<RequestTest, String> {
        let name = source.strip_prefix('$').unwrap_or_default();
        let cannot = || format!("lameduck can't choose by {source} {entry}");
        let of = |key: &'static str, value: String| RequestTest {
            keys: vec![(key, value)],
            ..RequestTest::default()
        };
        let plain = entry.trim_start_matches('\\');
        match name {
            "host" | "http_host" => {
                let host = plain.to_ascii_lowercase();
                let hosts = &self.server.hosts;
                if entry.starts_with('~') || !hosts.is_empty() && !hosts.contains(&host) {
                    return Err(cannot());
                }
                return Ok(RequestTest {
                    hosts: Some(vec![host]),
                    ..RequestTest::default()
                });
            }
            "request_method" if !entry.starts_with('~') => {
                return Ok(of("methods", toml_list(&[plain.to_ascii_uppercase()])));
            }
            _ => {}
        }
        let (key, field) = if let Some(field) = name.strip_prefix("http_") {
            ("headers", field_name(field))
        } else if let Some(cookie) = name.strip_prefix("cookie_") {
            ("cookies", cookie.to_owned())
        } else if let Some(field) = name.strip_prefix("arg_") {
            ("query", field.to_owned())
        } else {
            return Err(cannot());
        };
        if entry.is_empty() {
            return Err(cannot());
        }
        let pattern = match entry.strip_prefix('~') {
            Some(rest) => match rest.strip_prefix('*') {
                Some(rest) => translate_regex(rest, true)?,
                None => translate_regex(rest, false)?,
            },
            // Keys are compared without case.
            None => format!("(?i)^{}$", escape_regex(plain)),
        };
        let pattern = field_pattern(pattern)?;
        let regex = toml_table(&[("regex".to_owned(), toml_text(&pattern))]);
        Ok(of(key, toml_table(&[(field, regex)])))
    }

    /// Plans `mirror`, copies of a location's requests.
    pub(super) fn add_mirror(
        &self,
        scope: &NginxScope<'a>,
        is_passed: bool,
        book: &mut PoolBook,
        plan: &mut LocationPlan,
    ) {
        let mirrors = scope.all("mirror").into_iter();
        for (n, mirror) in mirrors.filter(|d| d.arg(0) != "off").enumerate() {
            let read = match (n, is_passed) {
                (0, true) => self.read_mirror(mirror, book, plan),
                (0, false) => Err("copies are made of what goes to an app".into()),
                _ => Err("a route has one mirror".into()),
            };
            match read {
                Ok(value) => {
                    plan.keys.push(("mirror", value));
                    let says = "requests with more than 64 KiB of body have no copy";
                    plan.notices.push(mirror.difference(says));
                    let body = scope.last("mirror_request_body");
                    let body = body.filter(|d| d.arg(0) == "off");
                    let says = "copies have their body, too";
                    plan.notices
                        .extend(body.map(|directive| directive.difference(says)));
                }
                Err(why) => plan.notices.push(mirror.refusal(&why)),
            }
        }
    }

    fn read_mirror(
        &self,
        mirror: &NginxDirective,
        book: &mut PoolBook,
        plan: &mut LocationPlan,
    ) -> Result<String, String> {
        if !offered::has_route_key("mirror") {
            return Err("this version makes no copies".into());
        }
        let location = self.location_of(mirror.arg(0));
        let location = location.ok_or("there is no location for it")?;
        let inner = location.directive.inner();
        if let Some(directive) = inner
            .iter()
            .find(|d| ["if", "return", "rewrite"].contains(&d.name()))
        {
            return Err(format!(
                "`{}` chooses among its copies: write `percent`",
                directive.line()
            ));
        }
        let pass = pass_of(&location.scope).ok_or("its location passes requests to nobody")?;
        let keeps_path = pass.arg(0).ends_with("$request_uri");
        let mut fixed = pass.clone();
        if let Some(word) = fixed.words.get_mut(1) {
            let values = self.values(&location.scope, false);
            *word = values.read_fixed(trim_request(pass.arg(0)))?;
        }
        let target = PassTarget::read(&fixed)?;
        if !keeps_path || target.path.is_some() {
            let says = "a copy asks for the path of its request";
            plan.notices.push(pass.difference(says));
        }
        let (pool, notices) = book.book(self.site, &fixed, &location.scope)?;
        if plan.pools.contains(&pool) {
            return Err("its copies would go to the same app".into());
        }
        let value = toml_table(&[("pool".to_owned(), toml_text(&pool))]);
        plan.notices.extend(notices);
        plan.pools.push(pool);
        Ok(value)
    }
}

/// Adds the pools for requests that a `map` distinguishes. Everything else is the same for them.
pub(super) fn add_chosen(chosen: Vec<ChosenPool>, plan: &mut LocationPlan) {
    for (test, pool) in chosen {
        let of_pool = |(key, value): &(&'static str, String)| match *key {
            "pool" => ("pool", toml_text(&pool)),
            key => (key, value.clone()),
        };
        let keys: DraftKeys = plan.keys.iter().map(of_pool).collect();
        plan.variants.push(PlanVariant {
            test,
            keys,
            pools: plan.pools.clone(),
            change: plan.change.clone(),
        });
    }
}

/// Key of a split.
fn read_split_key(text: &str) -> Result<String, String> {
    const BY_CHANCE: [&str; 5] = ["request_id", "msec", "connection", "pid", "time_iso8601"];
    let parts = split_variables(text);
    let names: Vec<&str> = parts
        .iter()
        .filter_map(|part| match part {
            ValuePart::Variable(name) => Some(*name),
            ValuePart::Text(_) => None,
        })
        .collect();
    if names.iter().any(|name| BY_CHANCE.contains(name)) {
        return Ok("request".into());
    }
    if names
        .iter()
        .any(|name| ["remote_addr", "binary_remote_addr"].contains(name))
    {
        return Ok("client".into());
    }
    for name in &names {
        if let Some(cookie) = name.strip_prefix("cookie_") {
            return Ok(format!("cookie:{cookie}"));
        }
        if let Some(field) = name.strip_prefix("http_") {
            return Ok(format!("header:{}", field_name(field)));
        }
    }
    Err(format!("lameduck can't choose by \"{text}\""))
}

/// Parses `12.5%` to hundredths of a percent.
fn read_share(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 2 {
        return None;
    }
    let hundredths: u32 = format!("{part:0<2}").parse().ok()?;
    Some(whole.parse::<u32>().ok()?.checked_mul(100)? + hundredths).filter(|n| *n <= 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_hundredths_and_keys_are_what_splits_choose_by() {
        for (text, share) in [
            ("10%", Some(1_000)),
            ("0.5%", Some(50)),
            ("12.25%", Some(1_225)),
            ("100%", Some(10_000)),
            ("101%", None),
            ("10", None),
            ("%", None),
            ("1.234%", None),
        ] {
            assert_eq!(read_share(text), share, "{text}");
        }
        for (text, key) in [
            ("$request_id", "request"),
            ("${remote_addr}AAA", "client"),
            ("$remote_addr$http_user_agent", "client"),
            ("$cookie_sid", "cookie:sid"),
            ("$http_x_user", "header:X-User"),
        ] {
            assert_eq!(read_split_key(text).as_deref(), Ok(key), "{text}");
        }
        assert!(read_split_key("$ssl_session_id").is_err());
    }
}
