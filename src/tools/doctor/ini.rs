//! The two INI dialects: systemd units (repeated keys, `\` continues a line) and supervisord (indented lines
//! continue a value, `;` begins a comment).

use std::ops::Range;

/// Dialect of an INI file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IniDialect {
    /// systemd.syntax(7).
    Systemd,
    /// supervisord, which uses Python's `ConfigParser`.
    Supervisord,
}

/// A section `[NAME]`, with its keys in order.
#[derive(Debug, Clone)]
pub(super) struct IniSection {
    pub(super) name: String,
    pub(super) span: Range<usize>,
    pub(super) keys: Vec<IniKey>,
}

/// One line `name = value`.
#[derive(Debug, Clone)]
pub(super) struct IniKey {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) span: Range<usize>,
}

impl IniSection {
    /// Last value of a key; earlier ones are in `keys`.
    pub(super) fn last(&self, name: &str) -> Option<&IniKey> {
        self.keys.iter().rev().find(|key| key.name == name)
    }
}

/// A line that is no section, key or comment.
#[derive(Debug)]
pub(super) struct StrayLine {
    pub(super) span: Range<usize>,
    pub(super) message: &'static str,
}

/// Parses a text to sections, and lines that can't be understood.
pub(super) fn parse(text: &str, dialect: IniDialect) -> (Vec<IniSection>, Vec<StrayLine>) {
    let (mut sections, mut strays) = (Vec::<IniSection>::new(), Vec::new());
    let mut at = 0;
    // In systemd, a backslash at the end continues the line.
    let mut continued = false;
    for raw in text.split_inclusive('\n') {
        let start = at;
        at += raw.len();
        let line = raw.trim_end_matches(['\n', '\r']);
        let trimmed = line.trim().trim_start_matches('\u{feff}');
        let span = start + (line.len() - line.trim_start().len())..start + line.trim_end().len();
        let is_comment = trimmed.starts_with(['#', ';']);
        let key = sections.last_mut().and_then(|s| s.keys.last_mut());
        if continued {
            // Comments within a continued line are skipped: systemd.syntax(7).
            if is_comment {
                continue;
            }
            continued = trimmed.ends_with('\\');
            if let Some(key) = key {
                key.value.push(' ');
                key.value.push_str(trimmed.trim_end_matches('\\').trim());
            }
            continue;
        }
        if trimmed.is_empty() || is_comment {
            continue;
        }
        let indented = line.starts_with([' ', '\t']);
        if let (IniDialect::Supervisord, true, Some(key)) = (dialect, indented, key) {
            key.value.push('\n');
            key.value.push_str(uncommented(trimmed, dialect));
        } else if let Some(name) = trimmed.strip_prefix('[') {
            let name = name.split(']').next().unwrap_or_default().to_owned();
            if !trimmed.contains(']') {
                let message = "the section's name has no `]`";
                strays.push(StrayLine {
                    span: span.clone(),
                    message,
                });
            }
            sections.push(IniSection {
                name,
                span,
                keys: Vec::new(),
            });
        } else if let Some((name, value)) = trimmed.split_once(separator(dialect)) {
            continued = dialect == IniDialect::Systemd && value.ends_with('\\');
            let value = if continued {
                value.trim_end_matches('\\')
            } else {
                value
            };
            let key = IniKey {
                name: name.trim().to_owned(),
                value: uncommented(value.trim(), dialect).to_owned(),
                span: span.clone(),
            };
            match sections.last_mut() {
                Some(section) => section.keys.push(key),
                None => strays.push(StrayLine {
                    span,
                    message: "it stands before the first `[section]`",
                }),
            }
        } else {
            strays.push(StrayLine {
                span,
                message: "it is neither `[section]`, `key = value`, nor a comment",
            });
        }
    }
    (sections, strays)
}

fn separator(dialect: IniDialect) -> &'static [char] {
    match dialect {
        IniDialect::Systemd => &['='],
        IniDialect::Supervisord => &['=', ':'],
    }
}

/// Removes what follows ` ;`, which is a comment for supervisord but not for systemd.
fn uncommented(value: &str, dialect: IniDialect) -> &str {
    match (dialect, value.find(" ;")) {
        (IniDialect::Supervisord, Some(at)) => value[..at].trim_end(),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let text =
            "# c\n[Service]\nExecStop=-/bin/a \\\n# in between\n  --b\nExecStop=c ; d\nstray\n";
        let (sections, strays) = parse(text, IniDialect::Systemd);
        let values: Vec<_> = sections[0].keys.iter().map(|k| k.value.as_str()).collect();
        assert_eq!(values, ["-/bin/a --b", "c ; d"]);
        assert_eq!(&text[strays[0].span.clone()], "stray");
        assert_eq!(&text[sections[0].keys[1].span.clone()], "ExecStop=c ; d");
    }

    #[test]
    fn supervisord_continues_values_by_indentation() {
        let text = "[program:x]\ncommand=a b ; why\nenvironment = A=\"1\",\n  B=2\n";
        let (sections, strays) = parse(text, IniDialect::Supervisord);
        assert!(strays.is_empty());
        assert_eq!(
            sections[0].last("command").map(|k| k.value.as_str()),
            Some("a b")
        );
        assert_eq!(sections[0].keys[1].value, "A=\"1\",\nB=2");
    }
}
