//! Finds out which supervisor a file is for: by its content first, and then by its name.

use std::path::Path;

use toml::de::DeTable;

use super::checks as check;
use super::discover::{self, GENERATED};
use super::finding::{DoctorFindings, InputFile};
use super::ini::{self, IniDialect, IniSection};
use super::model::FindingPlace;
use super::systemd::SystemdUnit;
use super::template::{self, TemplateStrictness, rendered_name};
use super::toml::from_toml;
use crate::tools::tree::lenient::without_comments;
use crate::tools::tree::yaml;
use crate::tools::tree::{Node, TreeEntry, ValueKind};

/// A file whose kind is known.
#[derive(Debug)]
pub(super) enum RecognisedFile {
    Oxfile(Node),
    Pm2(Node),
    Systemd(Vec<IniSection>),
    Supervisord(Vec<IniSection>),
    Kubernetes(Vec<Node>),
    Compose(Node),
    /// A known kind that is not checked; its name.
    Passed(&'static str),
    /// An unknown kind; a finding says why.
    Unknown,
}

impl RecognisedFile {
    pub(super) fn name(&self) -> &'static str {
        match self {
            RecognisedFile::Oxfile(_) => "Oxmgr's Oxfile",
            RecognisedFile::Pm2(_) => "PM2's ecosystem file",
            RecognisedFile::Systemd(_) => "systemd unit",
            RecognisedFile::Supervisord(_) => "supervisord's configuration",
            RecognisedFile::Kubernetes(_) => "Kubernetes manifest",
            RecognisedFile::Compose(_) => "Compose file",
            RecognisedFile::Passed(what) => what,
            RecognisedFile::Unknown => "unknown",
        }
    }
}

/// Suffixes of units.
const UNIT_ENDS: [&str; 7] = [
    ".service", ".socket", ".target", ".timer", ".path", ".mount", ".slice",
];

/// Kinds that are checked, for messages.
const KNOWN: &str = "doctor reads oxfile.toml, PM2's ecosystem.config.*, systemd units, supervisord.conf, Kubernetes manifests and Compose files";

/// Finds out the kind of a file. Problems are added to `found`.
pub(super) fn form(n: usize, file: &InputFile, found: &mut DoctorFindings) -> RecognisedFile {
    let text = file.text.as_str();
    let path = Path::new(file.name.trim_end_matches(GENERATED));
    let name = path
        .file_name()
        .map_or("", |name| name.to_str().unwrap_or_default());
    if let Some(what) = passed(name, text) {
        return RecognisedFile::Passed(what);
    }
    let template = rendered_name(name);
    let was_template = template != name;
    let name = template;
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    let look = if was_template {
        TemplateStrictness::AnySign
    } else {
        TemplateStrictness::Certain
    };
    // Text within a manifest may contain anything, so only a parsed tree is examined.
    let later = ["js", "cjs", "mjs", "json", "json5", "yaml", "yml"].contains(&end);
    if !later && let Some(form) = template_of(n, text, look, found) {
        return form;
    }
    match end {
        "toml" => toml(n, text, found),
        "json" | "json5" | "yaml" | "yml" | "js" | "cjs" | "mjs" => tree(n, text, found),
        _ if UNIT_ENDS.iter().any(|end| name.ends_with(end)) => {
            sections(n, text, IniDialect::Systemd, found)
        }
        "conf" | "ini" | "cfg" => {
            let dialect = match is_drop_in(path) || is_unit(text) {
                true => IniDialect::Systemd,
                false => IniDialect::Supervisord,
            };
            sections(n, text, dialect, found)
        }
        _ => by_content(n, name, text, found),
    }
}

fn is_unit(text: &str) -> bool {
    has_section(text, &["Unit", "Service", "Install", "Socket"])
}

/// Finds out the kind by content alone, as for standard input.
fn by_content(n: usize, name: &str, text: &str, found: &mut DoctorFindings) -> RecognisedFile {
    let begins = |marks: &[&str]| {
        text.lines()
            .any(|line| marks.iter().any(|mark| line.starts_with(mark)))
    };
    if is_unit(text) {
        sections(n, text, IniDialect::Systemd, found)
    } else if begins(&[
        "[program:",
        "[supervisord]",
        "[group:",
        "[fcgi-program:",
        "[eventlistener:",
        "[include]",
    ]) {
        sections(n, text, IniDialect::Supervisord, found)
    } else if begins(&[
        "[[apps]]",
        "[processes.",
        "[defaults]",
        "[[pool]]",
        "[[listener]]",
    ]) {
        toml(n, text, found)
    } else if begins(&["module.exports", "export default", "exports."]) {
        let what = "this is JavaScript, and has no name to be evaluated by".to_owned();
        unknown(
            n,
            what,
            "save it as ecosystem.config.cjs, and name that".into(),
            found,
        )
    } else if text.trim_start().starts_with(['{', '['])
        || begins(&[
            "apiVersion:",
            "kind:",
            "services:",
            "apps:",
            "---",
            "version:",
            "name:",
            "x-",
        ])
    {
        tree(n, text, found)
    } else {
        let what = match name.is_empty() || name == discover::STANDARD_INPUT {
            true => "this is of no known kind".to_owned(),
            false => format!("`{name}` is of no known kind"),
        };
        unknown(n, what, KNOWN.into(), found)
    }
}

/// Files of supervisors without a kill timeout to check.
fn passed(name: &str, text: &str) -> Option<&'static str> {
    const SERVICE: [&str; 19] = [
        "run",
        "finish",
        "notification-fd",
        "timeout-kill",
        "timeout-finish",
        "timeout-up",
        "timeout-down",
        "down-signal",
        "max-death-tally",
        "type",
        "up",
        "down",
        "t",
        "check",
        "producer-for",
        "consumer-for",
        "dependencies",
        "pipeline-name",
        "data",
    ];
    let stem = name.split(['.', '-', '_']).next().unwrap_or_default();
    if SERVICE.contains(&name) {
        return Some("a service directory's file (runit, s6)");
    }
    match stem {
        "Procfile" => return Some("Procfile"),
        "Dockerfile" | "Containerfile" => return Some("Dockerfile"),
        _ if name.ends_with(".Dockerfile") || name.ends_with(".dockerfile") => {
            return Some("Dockerfile");
        }
        _ => {}
    }
    (text.starts_with("#!") && !name.ends_with("js")).then_some("script")
}

/// Adds a finding for a template that is not rendered.
fn template_of(
    n: usize,
    text: &str,
    look: TemplateStrictness,
    found: &mut DoctorFindings,
) -> Option<RecognisedFile> {
    let (span, how) = template::find(text, look)?;
    found.error(
        check::BROKEN_FILE,
        &FindingPlace { file: n, span },
        "this is a template that is not rendered",
        how,
    );
    Some(RecognisedFile::Unknown)
}

fn unknown(n: usize, what: String, instead: String, found: &mut DoctorFindings) -> RecognisedFile {
    found.error(
        check::BROKEN_FILE,
        &FindingPlace {
            file: n,
            span: 0..0,
        },
        what,
        instead,
    );
    RecognisedFile::Unknown
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

fn toml(n: usize, text: &str, found: &mut DoctorFindings) -> RecognisedFile {
    let (root, errors) = DeTable::parse_recoverable(text);
    if let Some(error) = errors.first() {
        if let Some(form) = template_of(n, text, TemplateStrictness::AnySign, found) {
            return form;
        }
        let span = error.span().unwrap_or(0..0);
        let what = format!("this is no TOML: {}", error.message());
        found.error(
            check::BROKEN_FILE,
            &FindingPlace { file: n, span },
            what,
            "mend the line; doctor has read nothing of this file",
        );
        return RecognisedFile::Unknown;
    }
    let root = from_toml(root.get_ref(), 0..text.len(), 0);
    if root.get("apps").is_some() || root.get("processes").is_some() {
        RecognisedFile::Oxfile(root)
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

fn tree(n: usize, text: &str, found: &mut DoctorFindings) -> RecognisedFile {
    let text = text.trim_start_matches('\u{feff}');
    // PM2 reads its JSON as JavaScript, with comments.
    let clean = text
        .trim_start()
        .starts_with(['{', '[', '/'])
        .then(|| without_comments(text));
    let mut documents = match yaml::parse(clean.as_deref().unwrap_or(text)) {
        Ok(documents) => documents,
        Err(broken) => {
            if let Some(form) = template_of(n, text, TemplateStrictness::AnySign, found) {
                return form;
            }
            let what = format!("this is neither YAML nor JSON: {}", broken.message);
            let place = FindingPlace {
                file: n,
                span: broken.span,
            };
            let right = "mend the line; doctor has read nothing of this file";
            found.error(check::BROKEN_FILE, &place, what, right);
            return RecognisedFile::Unknown;
        }
    };
    let outside = without_blocks(clean.as_deref().unwrap_or(text), &documents);
    if let Some(form) = template_of(n, &outside, TemplateStrictness::Certain, found) {
        return form;
    }
    documents.retain(|document| !matches!(document.kind, ValueKind::Null));
    let is_app = |node: &Node| {
        node.get("script").is_some() || (node.get("name").is_some() && node.get("cmd").is_some())
    };
    let has = |key: &str| documents.iter().any(|document| document.get(key).is_some());
    if has("kind") && has("apiVersion") {
        return RecognisedFile::Kubernetes(documents);
    }
    let is_pm2 = has("apps")
        || documents
            .iter()
            .any(|d| is_app(d) || d.items().iter().any(is_app));
    let is_compose = documents
        .iter()
        .any(|d| matches!(d.get("services").map(|s| &s.kind), Some(ValueKind::Map(_))));
    // The first form of Compose files has services at the top level.
    let is_service = |node: &Node| node.get("image").is_some() || node.get("build").is_some();
    let is_old = documents.len() == 1
        && !documents[0].entries().is_empty()
        && documents[0]
            .entries()
            .iter()
            .all(|entry| is_service(&entry.value));
    if is_old && let Some(services) = documents.pop() {
        let span = services.span.clone();
        let entry = TreeEntry {
            key: "services".into(),
            key_span: span.start..span.start,
            value: services,
        };
        return RecognisedFile::Compose(Node {
            span,
            kind: ValueKind::Map(vec![entry]),
        });
    }
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
        RecognisedFile::Pm2(first)
    } else {
        RecognisedFile::Compose(first)
    }
}

/// Text without multi-line values, which are in other languages (alerts in a ConfigMap, scripts).
fn without_blocks(text: &str, documents: &[Node]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut left: Vec<&Node> = documents.iter().collect();
    while let Some(node) = left.pop() {
        match &node.kind {
            ValueKind::List(items) => left.extend(items),
            ValueKind::Map(entries) => left.extend(entries.iter().map(|entry| &entry.value)),
            ValueKind::Scalar(_) | ValueKind::Null => {
                let Some(value) = bytes.get_mut(node.span.clone()) else {
                    continue;
                };
                if value.contains(&b'\n') {
                    value
                        .iter_mut()
                        .filter(|byte| **byte != b'\n')
                        .for_each(|byte| *byte = b' ');
                }
            }
        }
    }
    // Only whole values were replaced.
    String::from_utf8(bytes).unwrap_or_default()
}

fn sections(
    n: usize,
    text: &str,
    dialect: IniDialect,
    found: &mut DoctorFindings,
) -> RecognisedFile {
    // Words that would only occur in templates.
    if let Some(form) = template_of(n, text, TemplateStrictness::AnySign, found) {
        return form;
    }
    let (sections, strays) = ini::parse(text, dialect);
    for stray in strays {
        let what = format!("this line can't be understood: {}", stray.message);
        found.error(
            check::BROKEN_FILE,
            &FindingPlace {
                file: n,
                span: stray.span,
            },
            what,
            "mend or remove it",
        );
    }
    if dialect == IniDialect::Systemd {
        return RecognisedFile::Systemd(sections);
    }
    let kinds = [
        "program:",
        "supervisord",
        "supervisorctl",
        "group:",
        "fcgi-program:",
        "eventlistener:",
        "include",
        "unix_http_server",
        "inet_http_server",
        "rpcinterface:",
    ];
    let ours = |section: &IniSection| kinds.iter().any(|kind| section.name.starts_with(kind));
    if sections.iter().any(ours) {
        RecognisedFile::Supervisord(sections)
    } else {
        unknown(
            n,
            "this has no `[program:NAME]`, and no section of a unit".into(),
            KNOWN.into(),
            found,
        )
    }
}

/// Units among the files, each with its drop-ins: those of `api@.service.d` and of `api@1.service.d` belong to
/// `api@.service`.
pub(super) fn units(files: &[InputFile], forms: Vec<RecognisedFile>) -> Vec<SystemdUnit> {
    let mut units: Vec<SystemdUnit> = Vec::new();
    let mut drop_ins = Vec::new();
    for (n, (file, form)) in files.iter().zip(forms).enumerate() {
        let RecognisedFile::Systemd(sections) = form else {
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
            units.push(SystemdUnit {
                name: rendered_name(&text(path.file_name())).to_owned(),
                parts: vec![(n, sections)],
            });
        }
    }
    for (n, name, sections) in drop_ins {
        let template = name.split_once('@').map(|(stem, rest)| {
            let end = rest.rsplit_once('.').map_or("", |(_, end)| end);
            format!("{stem}@.{end}")
        });
        let of =
            |unit: &&mut SystemdUnit| unit.name == name || template.as_ref() == Some(&unit.name);
        match units.iter_mut().find(of) {
            Some(unit) => unit.parts.push((n, sections)),
            None => units.push(SystemdUnit {
                name,
                parts: vec![(n, sections)],
            }),
        }
    }
    units
}
