//! Which supervisor a file is for: by its content first, its name second.

use std::path::Path;

use toml::de::DeTable;

use super::checks as check;
use super::finding::{Findings, Input};
use super::ini::{self, Dialect, Section};
use super::look::GENERATED;
use super::model::Place;
use super::systemd::Unit;
use super::tree::{Kind, Node, from_toml};
use super::yaml;

/// A file that was understood.
#[derive(Debug)]
pub(super) enum Form {
    Oxfile(Node),
    Pm2(Node),
    Systemd(Vec<Section>),
    Supervisord(Vec<Section>),
    Kubernetes(Vec<Node>),
    Compose(Node),
    /// A finding says why.
    Unknown,
}

impl Form {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Form::Oxfile(_) => "Oxmgr's Oxfile",
            Form::Pm2(_) => "PM2's ecosystem file",
            Form::Systemd(_) => "systemd unit",
            Form::Supervisord(_) => "supervisord's configuration",
            Form::Kubernetes(_) => "Kubernetes manifest",
            Form::Compose(_) => "Compose file",
            Form::Unknown => "unknown",
        }
    }
}

/// Units and their drop-ins.
const UNIT_ENDS: [&str; 7] = [
    ".service", ".socket", ".target", ".timer", ".path", ".mount", ".slice",
];

/// What is understood, for messages.
const KNOWN: &str = "doctor reads oxfile.toml, PM2's ecosystem.config.*, systemd units, supervisord.conf, Kubernetes manifests and Compose files";

/// What this file is. What is wrong with it goes to `found`.
pub(super) fn form(n: usize, file: &Input, found: &mut Findings) -> Form {
    let text = file.text.as_str();
    let path = Path::new(file.name.trim_end_matches(GENERATED));
    let name = path
        .file_name()
        .map_or("", |name| name.to_str().unwrap_or_default());
    let end = path
        .extension()
        .map_or("", |end| end.to_str().unwrap_or_default());
    match end {
        "toml" => toml(n, text, found),
        "json" | "yaml" | "yml" | "js" | "cjs" | "mjs" => tree(n, text, found),
        _ if UNIT_ENDS.iter().any(|end| name.ends_with(end)) => {
            sections(n, text, Dialect::Systemd, found)
        }
        "conf" | "ini" => {
            let dialect = if is_drop_in(path)
                || has_section(text, &["Unit", "Service", "Install", "Socket"])
            {
                Dialect::Systemd
            } else {
                Dialect::Supervisord
            };
            sections(n, text, dialect, found)
        }
        _ if has_section(text, &["Unit", "Service"]) => sections(n, text, Dialect::Systemd, found),
        _ => unknown(
            n,
            format!("`{name}` is of no known kind"),
            KNOWN.into(),
            found,
        ),
    }
}

fn unknown(n: usize, what: String, instead: String, found: &mut Findings) -> Form {
    found.error(
        check::BROKEN,
        &Place {
            file: n,
            span: 0..0,
        },
        what,
        instead,
    );
    Form::Unknown
}

fn has_section(text: &str, names: &[&str]) -> bool {
    text.lines().any(|line| {
        let name = line
            .trim()
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        name.is_some_and(|name| names.contains(&name))
    })
}

fn is_drop_in(path: &Path) -> bool {
    path.parent()
        .and_then(Path::file_name)
        .and_then(|dir| dir.to_str())
        .is_some_and(|dir| {
            dir.ends_with(".d")
                && UNIT_ENDS
                    .iter()
                    .any(|end| dir.trim_end_matches(".d").ends_with(end))
        })
}

fn toml(n: usize, text: &str, found: &mut Findings) -> Form {
    let (root, errors) = DeTable::parse_recoverable(text);
    if let Some(error) = errors.first() {
        let span = error.span().unwrap_or(0..0);
        let what = format!("this is no TOML: {}", error.message());
        found.error(
            check::BROKEN,
            &Place { file: n, span },
            what,
            "mend the line; doctor has read nothing of this file",
        );
        return Form::Unknown;
    }
    let root = from_toml(root.get_ref(), 0..text.len(), 0);
    if root.get("apps").is_some() || root.get("processes").is_some() {
        Form::Oxfile(root)
    } else if root.get("pool").is_some() || root.get("listener").is_some() {
        unknown(
            n,
            "this is lameduck's own configuration".into(),
            "name it with `-c FILE`, and the supervisor's file as the argument".into(),
            found,
        )
    } else {
        unknown(
            n,
            "this TOML has neither `[[apps]]` nor `[processes.NAME]`".into(),
            KNOWN.into(),
            found,
        )
    }
}

fn tree(n: usize, text: &str, found: &mut Findings) -> Form {
    let mut documents = match yaml::parse(text) {
        Ok(documents) => documents,
        Err(broken) => {
            let what = format!("this is neither YAML nor JSON: {}", broken.message);
            found.error(
                check::BROKEN,
                &Place {
                    file: n,
                    span: broken.span,
                },
                what,
                "mend the line; doctor has read nothing of this file",
            );
            return Form::Unknown;
        }
    };
    let is_app = |node: &Node| node.get("script").is_some();
    let has = |key: &str| documents.iter().any(|document| document.get(key).is_some());
    if has("kind") && has("apiVersion") {
        return Form::Kubernetes(documents);
    }
    let is_pm2 = has("apps")
        || documents
            .iter()
            .any(|d| is_app(d) || d.items().iter().any(is_app));
    let is_compose = documents
        .iter()
        .any(|d| matches!(d.get("services").map(|s| &s.kind), Some(Kind::Map(_))));
    if documents.is_empty() || !(is_pm2 || is_compose) {
        return unknown(
            n,
            "this has no `kind`, no `services` and no `apps`".into(),
            KNOWN.into(),
            found,
        );
    }
    let first = documents.swap_remove(0);
    if is_pm2 {
        Form::Pm2(first)
    } else {
        Form::Compose(first)
    }
}

fn sections(n: usize, text: &str, dialect: Dialect, found: &mut Findings) -> Form {
    let (sections, strays) = ini::parse(text, dialect);
    for stray in strays {
        let what = format!("this line can't be understood: {}", stray.message);
        found.error(
            check::BROKEN,
            &Place {
                file: n,
                span: stray.span,
            },
            what,
            "mend or remove it",
        );
    }
    if dialect == Dialect::Systemd {
        return Form::Systemd(sections);
    }
    let ours = |section: &Section| {
        section.name.starts_with("program:")
            || section.name.starts_with("supervisord")
            || section.name.starts_with("group:")
    };
    if sections.iter().any(ours) {
        Form::Supervisord(sections)
    } else {
        unknown(
            n,
            "this has no `[program:NAME]`, and no section of a unit".into(),
            KNOWN.into(),
            found,
        )
    }
}

/// The units among the files, each with its drop-ins: `api@.service.d/x.conf` belongs to `api@.service`, and
/// `api@1.service.d` to it as well.
pub(super) fn units(files: &[Input], forms: Vec<Form>) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut drop_ins = Vec::new();
    for (n, (file, form)) in files.iter().zip(forms).enumerate() {
        let Form::Systemd(sections) = form else {
            continue;
        };
        let path = Path::new(&file.name);
        let text = |part: Option<&std::ffi::OsStr>| {
            part.and_then(|p| p.to_str()).unwrap_or_default().to_owned()
        };
        if is_drop_in(path) {
            let dir = text(path.parent().and_then(Path::file_name));
            drop_ins.push((n, dir.trim_end_matches(".d").to_owned(), sections));
        } else {
            units.push(Unit {
                name: text(path.file_name()),
                parts: vec![(n, sections)],
            });
        }
    }
    for (n, name, sections) in drop_ins {
        let template = name.split_once('@').map(|(stem, rest)| {
            let end = rest.rsplit_once('.').map_or("", |(_, end)| end);
            format!("{stem}@.{end}")
        });
        let of = |unit: &&mut Unit| unit.name == name || template.as_ref() == Some(&unit.name);
        match units.iter_mut().find(of) {
            Some(unit) => unit.parts.push((n, sections)),
            None => units.push(Unit {
                name,
                parts: vec![(n, sections)],
            }),
        }
    }
    units
}
