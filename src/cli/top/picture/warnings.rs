//! Warnings that need attention now.

use std::time::SystemTime;

use super::super::model::{ProxyRecord, TopModel};
use super::super::words::{ago, span};
use super::certificates::certificates;
use crate::registry::view::PoolView;
use crate::rt::output::{count, printable};

/// Days before a certificate expires from which there is a warning.
const WARNING_DAYS: i64 = 14;

/// The warnings, one line each, the worst first.
pub(super) fn warnings(model: &TopModel, now: SystemTime) -> Vec<String> {
    let mut lines = Vec::new();
    let several = model.proxies.len() > 1;
    for proxy in &model.proxies {
        let Some(answers) = proxy.answers.as_ref().filter(|_| proxy.failure.is_none()) else {
            continue;
        };
        let named = |text: String| match several {
            true => format!("{}: {text}", printable(&proxy.name)),
            false => text,
        };
        for pool in &answers.pools {
            lines.extend(of_pool(pool, now).into_iter().map(&named));
        }
        lines.extend(of_proxy(proxy).into_iter().map(&named));
    }
    for certificate in certificates(model) {
        if certificate.days_left < WARNING_DAYS {
            let days = count(certificate.days_left.max(0).unsigned_abs(), "day");
            lines.push(format!(
                "certificate of {} expires in {days}",
                certificate.names
            ));
        }
        if let Some(why) = &certificate.trouble {
            lines.push(format!(
                "certificate of {} can't be ordered: {why}",
                certificate.names
            ));
        }
    }
    lines
}

fn of_pool(pool: &PoolView, now: SystemTime) -> Vec<String> {
    let mut lines = Vec::new();
    let name = printable(&pool.name);
    if pool.eligible == 0 && pool.pause.is_none() && !pool.backends.is_empty() {
        lines.push(format!("no backend of {name} takes requests"));
    }
    for source in &pool.discovery {
        let what = printable(&source.source);
        if let Some(why) = &source.failure {
            let since = ago(source.failing_since.as_deref(), now).map(span);
            let since = since.map_or_else(String::new, |time| format!(" for {time}"));
            let why = printable(why);
            lines.push(format!("{name}: {what} can't be asked{since}: {why}"));
        }
        if let Some(doubt) = &source.doubt {
            lines.push(format!("{name}: {what} is doubted: {}", printable(doubt)));
        }
        if source.refused > 0 {
            let refused = count(source.refused as u64, "backend");
            lines.push(format!("{name}: {refused} of {what} not taken"));
        }
    }
    if let Some(supervisor) = &pool.supervisor
        && let Some(why) = &supervisor.why
    {
        let kind = printable(&supervisor.kind);
        lines.push(format!("{name}: {kind} can't be heard: {}", printable(why)));
    }
    lines
}

fn of_proxy(proxy: &ProxyRecord) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(answers) = &proxy.answers else {
        return lines;
    };
    // This concerns the whole proxy, although each pool reports it.
    if let Some(why) = answers
        .pools
        .iter()
        .find_map(|pool| pool.unsaved.as_deref())
    {
        let why = printable(why);
        lines.push(format!(
            "drains would not survive a restart of lameduck: {why}"
        ));
    }
    if let Some(upgrade) = &answers.upgrade {
        if upgrade.under_way {
            lines.push("an upgrade is under way".to_owned());
        }
        if let Some(old) = &upgrade.predecessor {
            let connections = count(old.connections.into(), "connection");
            let pid = old.pid;
            lines.push(format!("upgraded: process {pid} finishes {connections}"));
        }
    }
    lines
}
