//! Routes to several pools: `split`, by weight over several pools, and `mirror`, copies for another pool.

use crate::config::forms::{KeyContext, SpannedProblems, ValueForm};
use crate::config::health::is_token;
use crate::config::print;
use crate::config::reader::{ValueError, describe};
use crate::config::values::{self, ValueResult, no_table, quoted, text, wrong};
use std::ops::Range;
use toml::Spanned;
use toml::de::DeValue;

/// Largest weight in a split.
pub const MOST_WEIGHT: u32 = 1_000_000;

/// Most pools of one split.
const MOST_POOLS: usize = 16;

/// One pool's share of a split.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SplitShare {
    /// Name of the pool.
    pub pool: String,
    /// Weight among the others.
    pub weight: u32,
}

/// The property by which a split assigns requests to pools.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SplitKey {
    /// None: each request is assigned by itself.
    #[default]
    Request,
    /// The client's address.
    Client,
    /// The value of this cookie.
    Cookie(String),
    /// The value of this header field.
    Header(String),
}

/// Copies of a route's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorConfig {
    /// Name of the pool that gets the copies.
    pub pool: String,
    /// Share of requests that are copied, in millionths.
    pub millionths: u32,
}

/// All requests, in millionths.
const ALL: u32 = 1_000_000;

/// Form of `{ api = 95, api-next = 5 }`.
pub(in crate::config) struct SplitShares;

impl ValueForm<Vec<SplitShare>> for SplitShares {
    fn name(&self) -> String {
        "table of weights".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Vec<SplitShare>> {
        let content = "pools with their weights";
        Err(no_table(
            key.name,
            value,
            content,
            "{ api = 95, api-next = 5 }",
        ))
    }

    fn print(&self, shares: &Vec<SplitShare>) -> String {
        let share = |share: &SplitShare| (print::text(&share.pool), share.weight.to_string());
        print::table_of(shares.iter().map(share))
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<Vec<SplitShare>> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.read_at(key, value, problems);
        };
        let before = problems.len();
        let mut shares = Vec::new();
        for (pool, weight) in table {
            let (span, pool): (_, &str) = (pool.span(), pool.get_ref());
            if let Err(why) = values::check_name(pool) {
                let message = format!("`{}` has {}: {why}", key.name, quoted(pool));
                problems.push((span, ValueError::new(message, "write the name of a pool")));
                continue;
            }
            let most = i64::from(MOST_WEIGHT);
            let read = match weight.get_ref() {
                integer @ DeValue::Integer(_) => values::integer(pool, integer, &(0..=most)),
                other => Err(ValueError::new(
                    format!(
                        "the weight of `{pool}` is {}, but must be a whole number",
                        describe(other)
                    ),
                    "write whole numbers, such as `{ api = 95, api-next = 5 }`: what counts is each one's part of their sum",
                )),
            };
            match read {
                Ok(weight) => shares.push(SplitShare {
                    pool: pool.into(),
                    weight: u32::try_from(weight).unwrap_or(MOST_WEIGHT),
                }),
                Err(problem) => problems.push((weight.span(), problem)),
            }
        }
        let refusal = |why: String, remedy: &str| {
            Some((
                value.span(),
                ValueError::new(format!("`{}` {why}", key.name), remedy),
            ))
        };
        let count = shares.len();
        problems.extend(if problems.len() > before || count == 0 {
            None
        } else if count > MOST_POOLS {
            refusal(
                format!("has {count} pools, and at most {MOST_POOLS} are allowed"),
                "split in two steps, or give several apps one pool",
            )
        } else if shares.iter().all(|share| share.weight == 0) {
            refusal(
                "gives every pool a weight of 0: none would get a request".into(),
                "give at least one a weight of 1 or more",
            )
        } else {
            None
        });
        // A table has no order; sorted, it is the same when it is printed and read again.
        shares.sort();
        Some(shares)
    }
}

impl SplitKey {
    fn written(&self) -> String {
        match self {
            Self::Request => "request".into(),
            Self::Client => "client".into(),
            Self::Cookie(name) => format!("cookie:{name}"),
            Self::Header(name) => format!("header:{name}"),
        }
    }
}

/// Reads `split_on`.
pub(in crate::config) fn read_split_key(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
) -> ValueResult<SplitKey> {
    const WAYS: &str = "write \"request\", \"client\", \"cookie:NAME\" or \"header:NAME\"";
    let written = text(key.name, value, "client")?;
    let named = |name: &str| match is_token(name) {
        true => Ok(name.to_owned()),
        false => Err(wrong(
            key.name,
            quoted(written),
            "such a name can't be",
            "write letters, digits, dashes and underscores only, such as \"cookie:session\"",
        )),
    };
    match written.split_once(':') {
        None if written == "request" => Ok(SplitKey::Request),
        None if written == "client" => Ok(SplitKey::Client),
        Some(("cookie", name)) => named(name).map(SplitKey::Cookie),
        Some(("header", name)) if name.eq_ignore_ascii_case("cookie") => Err(wrong(
            key.name,
            quoted(written),
            "cookies are told apart by name",
            "write \"cookie:NAME\"",
        )),
        Some(("header", name)) => named(name).map(SplitKey::Header),
        _ => Err(wrong(
            key.name,
            quoted(written),
            "there is no such way to split",
            WAYS,
        )),
    }
}

pub(in crate::config) fn print_split_key(key: &SplitKey) -> String {
    print::text(&key.written())
}

/// Form of `{ pool = "shadow", percent = 1 }`.
pub(in crate::config) struct MirrorForm;

const MIRROR: &str = "{ pool = \"shadow\", percent = 1 }";

impl ValueForm<Option<MirrorConfig>> for MirrorForm {
    fn name(&self) -> String {
        "table".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<MirrorConfig>> {
        let content = "a pool and a percentage";
        Err(no_table(key.name, value, content, MIRROR))
    }

    fn print(&self, mirror: &Option<MirrorConfig>) -> String {
        let Some(mirror) = mirror else {
            return "{}".into();
        };
        let (whole, rest) = (mirror.millionths / 10_000, mirror.millionths % 10_000);
        let percent = match rest {
            0 => whole.to_string(),
            _ => format!("{whole}.{rest:04}")
                .trim_end_matches('0')
                .to_owned(),
        };
        let pool = print::text(&mirror.pool);
        format!("{{ pool = {pool}, percent = {percent} }}")
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<Option<MirrorConfig>> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.read_at(key, value, problems);
        };
        if table.is_empty() {
            return Some(None);
        }
        let (mut pool, mut millionths) = (None, Some(ALL));
        let before = problems.len();
        let mut note = |span: Range<usize>, problem| problems.push((span, problem));
        for (name, value) in table {
            let (span, name): (_, &str) = (name.span(), name.get_ref());
            match name {
                "pool" => match values::name(name, value.get_ref()) {
                    Ok(name) => pool = Some(name),
                    Err(problem) => note(value.span(), problem),
                },
                "percent" => match read_percent(name, value.get_ref()) {
                    Ok(read) => millionths = Some(read),
                    Err(problem) => note(value.span(), problem),
                },
                _ => note(
                    span,
                    ValueError::new(
                        format!("there is no `{name}` in `{}`", key.name),
                        format!("write `mirror = {MIRROR}`"),
                    ),
                ),
            }
        }
        if problems.len() > before {
            return None;
        }
        let Some(pool) = pool else {
            let problem = ValueError::new(
                format!("`{}` has no pool: who is to get the copies?", key.name),
                format!("write `mirror = {MIRROR}`"),
            );
            problems.push((value.span(), problem));
            return None;
        };
        let millionths = millionths?;
        Some(Some(MirrorConfig { pool, millionths }))
    }
}

/// Reads a percentage, in millionths.
fn read_percent(key: &str, value: &DeValue<'_>) -> ValueResult<u32> {
    let number = match value {
        DeValue::Float(float) => float.as_str().replace('_', "").parse::<f64>().ok(),
        other => Some(values::integer(key, other, &(0..=100))? as f64),
    };
    match number.map(|percent| (percent, percent * 10_000.0)) {
        Some((percent, parts)) if (0.0..=100.0).contains(&percent) => {
            let whole = parts.round();
            // The smallest share above zero is a millionth.
            match (parts - whole).abs() < 1e-6 {
                true => Ok(whole as u32),
                false => Err(wrong(
                    key,
                    percent,
                    "it has more than four digits behind the point",
                    "write 0.0001 or a multiple of it",
                )),
            }
        }
        _ => Err(wrong(
            key,
            number.map_or_else(|| "?".to_owned(), |number| number.to_string()),
            "it must be from 0 to 100",
            "write `percent = 1`, or any number from 0 to 100",
        )),
    }
}
