//! Directives that are in effect at a place: the levels from `http` to the innermost location.
//!
//! nginx inherits a directive from an outer level only if the inner one has none of that name: a single
//! `proxy_set_header` in a location replaces all those of the server.

use super::tree::NginxDirective;

/// The levels around a place, the outermost first.
#[derive(Debug, Clone, Default)]
pub struct NginxScope<'a> {
    levels: Vec<&'a [NginxDirective]>,
}

impl<'a> NginxScope<'a> {
    /// The scope of an inner level.
    pub fn enter(&self, level: &'a [NginxDirective]) -> Self {
        let mut levels = self.levels.clone();
        levels.push(level);
        NginxScope { levels }
    }

    /// All levels, the outermost first.
    pub fn levels(&self) -> impl Iterator<Item = &'a [NginxDirective]> + '_ {
        self.levels.iter().copied()
    }

    /// All directives of this name that are in effect.
    pub fn all(&self, name: &str) -> Vec<&'a NginxDirective> {
        for level in self.levels.iter().rev() {
            let here: Vec<_> = level.iter().filter(|d| d.name() == name).collect();
            if !here.is_empty() {
                return here;
            }
        }
        Vec::new()
    }

    /// All directives of these names that are in effect, for names that are inherited together.
    pub fn all_of(&self, names: &[&str]) -> Vec<&'a NginxDirective> {
        let is_one = |d: &&NginxDirective| names.contains(&d.name());
        let mut levels = self.levels.iter().rev();
        let here = levels.find(|level| level.iter().any(|d| is_one(&d)));
        here.map_or_else(Vec::new, |level| level.iter().filter(is_one).collect())
    }

    /// The last directive in effect whose name meets the condition.
    pub fn last_that(&self, is_one: impl Fn(&str) -> bool) -> Option<&'a NginxDirective> {
        let mut levels = self.levels.iter().rev();
        levels.find_map(|level| level.iter().rfind(|d| is_one(d.name())))
    }

    /// Value that `set` gives a variable.
    pub fn set_variable(&self, name: &str) -> SetVariable<'a> {
        let is_it =
            |d: &&NginxDirective| d.name() == "set" && d.arg(0).strip_prefix('$') == Some(name);
        let mut value = SetVariable::Unset;
        for level in &self.levels {
            for directive in level.iter() {
                if is_it(&directive) {
                    value = match value {
                        SetVariable::Changing => SetVariable::Changing,
                        _ => SetVariable::Fixed(directive.arg(1)),
                    };
                }
                if directive.name() == "if" && directive.inner().iter().any(|d| is_it(&d)) {
                    value = SetVariable::Changing;
                }
            }
        }
        value
    }

    /// The directive of this name that is in effect.
    pub fn last(&self, name: &str) -> Option<&'a NginxDirective> {
        self.all(name).pop()
    }

    /// First argument of the directive in effect; empty if there is none.
    pub fn value(&self, name: &str) -> &'a str {
        self.last(name).map_or("", |directive| directive.arg(0))
    }

    /// Directives of the innermost level.
    pub fn own_level(&self) -> &'a [NginxDirective] {
        self.levels.last().copied().unwrap_or_default()
    }

    /// The directive of this name on the innermost level, for directives that are not inherited.
    pub fn own_directive(&self, name: &str) -> Option<&'a NginxDirective> {
        self.levels.last()?.iter().rfind(|d| d.name() == name)
    }
}

/// Value that `set` gives a variable at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetVariable<'a> {
    /// No `set`: it is nginx's own variable, or that of a `map`.
    Unset,
    /// Always this text.
    Fixed(&'a str),
    /// Different texts.
    Changing,
}

/// Parses a time of nginx (`30`, `1m30s`, `500ms`); a number without a unit is in seconds.
pub fn read_time(text: &str) -> Option<std::time::Duration> {
    let mut millis: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units: [(&str, u64); 9] = [
            ("ms", 1),
            ("s", 1_000),
            ("m", 60_000),
            ("h", 3_600_000),
            ("d", 86_400_000),
            ("w", 604_800_000),
            ("M", 2_592_000_000),
            ("y", 31_536_000_000),
            ("", 1_000),
        ];
        let (unit, scale) = units.iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = rest[unit.len()..].trim_start();
        millis = millis.checked_add(number.checked_mul(*scale)?)?;
    }
    (!text.is_empty()).then(|| std::time::Duration::from_millis(millis))
}

/// Parses a size of nginx (`512`, `8k`, `10m`, `1g`) to bytes.
pub fn read_size(text: &str) -> Option<u64> {
    let (number, scale) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (&text[..at], 1 << 10),
        (at, 'm' | 'M') => (&text[..at], 1 << 20),
        (at, 'g' | 'G') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    number
        .parse::<u64>()
        .ok()
        .filter(|_| digits)?
        .checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::import::nginx::tree::TreeReader;

    #[test]
    fn lower_level_replaces_a_list_as_a_whole() {
        let text = "s a 1; s b 2; t x; l { s c 3; }";
        let tree = TreeReader::new(".").read_text("x", text, 0).unwrap();
        let scope = NginxScope::default().enter(&tree).enter(tree[3].inner());
        assert_eq!(scope.all("s").len(), 1);
        assert_eq!((scope.value("s"), scope.value("t")), ("c", "x"));
        assert!(scope.own_directive("t").is_none() && scope.last("u").is_none());
    }

    #[test]
    fn times_and_sizes_are_nginx_s() {
        for (text, millis) in [
            ("30", 30_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1d 2h", 93_600_000),
            ("0", 0),
        ] {
            assert_eq!(read_time(text).unwrap().as_millis(), millis, "{text}");
        }
        for bad in [
            "",
            "x",
            "1x",
            "-1",
            "99999999999999999999",
            "9999999999999999y",
        ] {
            assert_eq!(read_time(bad), None, "{bad}");
        }
        for (text, bytes) in [
            ("512", 512),
            ("8k", 8192),
            ("10m", 10 << 20),
            ("1G", 1 << 30),
            ("0", 0),
        ] {
            assert_eq!(read_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "k", "1.5m", "+1", "99999999999999999999g", "é"] {
            assert_eq!(read_size(bad), None, "{bad}");
        }
    }
}
