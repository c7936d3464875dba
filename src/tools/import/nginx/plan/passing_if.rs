//! An `if` with its own `proxy_pass`, and a `set` in an `if` that chooses the target of `proxy_pass`, as in blue-green
//! deployments.

use super::conditions::read_condition;
use super::location::{LocationPlan, LocationPlanner};
use super::pass_url::PassUrl;
use super::pools::PoolBook;
use super::spread::ChosenPool;
use crate::tools::import::draft::toml_text;
use crate::tools::import::nginx::scope::NginxScope;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::offered;

/// Whether an `if` only passes requests on to another app.
pub(super) fn passes_elsewhere(directive: &NginxDirective) -> bool {
    let inner = directive.inner();
    let is_known = |d: &NginxDirective| ["proxy_pass", "break"].contains(&d.name());
    inner.iter().any(|d| d.name() == "proxy_pass") && inner.iter().all(is_known)
}

impl<'a> LocationPlanner<'_, 'a> {
    /// Pools for the requests that meet an `if`.
    ///
    /// # Errors
    /// Reason why routes can't express this.
    pub(super) fn choose_by_if(
        &self,
        test: &'a NginxDirective,
        around: &NginxScope<'a>,
        book: &mut PoolBook,
        plan: &mut LocationPlan,
    ) -> Result<Vec<ChosenPool>, String> {
        let pass = test.inner().iter().find(|d| d.name() == "proxy_pass");
        let pass = pass.ok_or("it passes requests to nobody")?;
        if !plan.keys.iter().any(|(key, _)| *key == "pool") || !plan.variants.is_empty() {
            return Err("`proxy_pass` under a condition".into());
        }
        let scope = around.enter(test.inner());
        let values = self.values(&scope, false);
        let base = match PassUrl::read(pass.arg(0), &values) {
            None => pass.arg(0).to_owned(),
            Some(url) if url.tail.is_empty() => values.read_fixed(&url.base)?,
            Some(_) => return Err("`proxy_pass` under a condition has variables".into()),
        };
        let mut fixed = pass.clone();
        if let Some(word) = fixed.words.get_mut(1) {
            *word = base;
        }
        let tests = read_condition(test, self.server, self.site)?;
        if tests.iter().any(|test| test.path.is_some()) {
            return Err("its path is asked for twice".into());
        }
        let (pool, notices) = book.book(self.site, &fixed, &scope)?;
        plan.notices.extend(notices);
        if !plan.pools.contains(&pool) {
            plan.pools.push(pool.clone());
        }
        let mut chosen = Vec::new();
        for test in tests {
            let mut keys = test.keys.clone();
            keys.push(("pool", toml_text(&pool)));
            offered::check_route(&keys, std::slice::from_ref(&pool))?;
            chosen.push((test, pool.clone()));
        }
        Ok(chosen)
    }
}

/// A variable with one text, or other texts if an `if` is met.
#[derive(Debug)]
pub(super) struct SetByIf<'a> {
    /// Text if no condition is met.
    pub base: &'a str,
    /// Conditions, each with the text if it is met.
    pub cases: Vec<(&'a NginxDirective, &'a str)>,
}

/// Texts that `set` and `if` give a variable. At most one of several conditions may be met, so all must compare the
/// same field.
pub(super) fn set_by_if<'a>(scope: &NginxScope<'a>, name: &str) -> Option<SetByIf<'a>> {
    let is_it = |d: &NginxDirective| {
        d.name() == "set" && d.arg(0).strip_prefix('$') == Some(name) && !d.arg(1).contains('$')
    };
    let mut base = None;
    let mut cases: Vec<(&NginxDirective, &str)> = Vec::new();
    for directive in scope.levels().flatten() {
        match directive.name() {
            "set" if is_it(directive) && cases.is_empty() => base = Some(directive.arg(1)),
            "set" if directive.arg(0).strip_prefix('$') == Some(name) => return None,
            "if" => {
                let names_it = |d: &NginxDirective| d.arg(0).strip_prefix('$') == Some(name);
                match directive.inner() {
                    [only] if is_it(only) => cases.push((directive, only.arg(1))),
                    inner if inner.iter().any(names_it) => return None,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    let asks = |(test, _): &(&NginxDirective, &str)| {
        let words = test.args().join(" ");
        let (variable, rest) = words.split_once(' ').unwrap_or_default();
        (variable.to_owned(), rest.starts_with("= "))
    };
    let first = cases.first().map(asks)?;
    let is_one_of = cases.len() == 1 || first.1 && cases.iter().all(|case| asks(case) == first);
    is_one_of.then_some(SetByIf { base: base?, cases })
}
