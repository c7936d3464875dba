//! `lameduck doctor`: finds settings in supervisors' configurations that will cut requests.
//!
//! In reading order: [`checks`] is the catalogue. `model` describes processes and how they are stopped; every reader
//! converts its file to it. `checks_common` has the checks that are the same under every supervisor, and `arithmetic`
//! their sums of times. `advice` writes corrections in the file's own syntax, and `coordination` says which way of
//! draining fits. A check that concerns only one supervisor is in its reader, which adds its findings to `finding`
//! directly. There is a reader for each supervisor (`oxfile`, `pm2`, `systemd`, `supervisord`, `kubernetes`,
//! `compose`), on three forms of text (`toml` for TOML, `yaml` for YAML and JSON, `ini`). `recognise` finds out the
//! kind of a file.
//! Command lines are split by `shell`, unwrapped by `wrappers`, and classified by `command_line` and `programs`.

mod advice;
mod arithmetic;
pub mod checks;
mod checks_common;
mod command_line;
mod compose;
mod coordination;
pub mod discover;
mod finding;
mod include;
mod ini;
mod keep_alive;
mod kubernetes;
mod kubernetes_access;
mod model;
mod node;
mod oxfile;
mod pm2;
mod programs;
mod proxy;
mod recognise;
mod shell;
mod signal_name;
mod supervisord;
mod systemd;
mod template;
mod toml;
mod wrappers;

#[cfg(test)]
pub(crate) use command_line::FLAGS;
pub use finding::InputFile;

use std::time::Duration;

use crate::config::{Config, ConfigReport, Severity};
use checks_common::AssumedTimes;
use finding::DoctorFindings;
use model::{FindingPlace, SupervisedProcess};
use proxy::ProxySide;
use recognise::RecognisedFile;

/// Result of an examination.
#[derive(Debug)]
pub struct Examination {
    /// Reports, one for each file in their order.
    pub reports: Vec<ConfigReport>,
    /// Kind of each file, such as "Oxmgr's Oxfile".
    pub kinds: Vec<&'static str>,
    /// Whether each file was recognised but is not checked.
    pub passed: Vec<bool>,
}

/// Options of an examination.
#[derive(Debug, Clone, Copy)]
pub struct DoctorOptions {
    /// Time that an app is assumed to need from its signal to its end, with nothing in flight. Default 5 s.
    pub app_stop: Duration,
}

impl Default for DoctorOptions {
    fn default() -> Self {
        DoctorOptions {
            app_stop: Duration::from_secs(5),
        }
    }
}

/// Checks files together with lameduck's own configuration, if there is one. Never panics, whatever the files contain.
pub fn examine(files: &[InputFile], config: Option<Config>, options: DoctorOptions) -> Examination {
    let mut found = DoctorFindings::new(files);
    let mut kinds = Vec::new();
    let mut passed = Vec::new();
    let mut forms = Vec::new();
    for (n, file) in files.iter().enumerate() {
        if file.name.ends_with(discover::GENERATED) {
            found.without_positions(n);
        }
        let form = recognise::form(n, file, &mut found);
        kinds.push(form.name());
        passed.push(matches!(form, RecognisedFile::Passed(_)));
        forms.push(form);
    }
    let assumed = AssumedTimes {
        app_stop: options.app_stop,
    };
    let proxy = ProxySide::new(config.or_else(|| embedded(&forms, files, &mut found)));
    let mut processes: Vec<SupervisedProcess> = Vec::new();
    for (n, form) in forms.iter().enumerate() {
        match form {
            RecognisedFile::Oxfile(root) => processes.extend(oxfile::read(n, root, &mut found)),
            RecognisedFile::Pm2(root) => {
                processes.extend(pm2::read(n, root, script_form(&files[n]), &mut found));
            }
            RecognisedFile::Supervisord(sections) => {
                processes.extend(supervisord::read(n, sections, &mut found))
            }
            RecognisedFile::Compose(root) => {
                processes.extend(compose::read(n, root, &proxy, &mut found))
            }
            RecognisedFile::Kubernetes(documents) => {
                processes.extend(kubernetes::read(n, documents, &proxy, &mut found));
            }
            RecognisedFile::Systemd(_) | RecognisedFile::Passed(_) | RecognisedFile::Unknown => {}
        }
    }
    for unit in recognise::units(files, forms) {
        processes.extend(systemd::read(&unit, &mut found));
    }
    for process in &processes {
        let scripts = files
            .get(process.place.file)
            .map_or(&[][..], |file| &file.scripts);
        checks_common::process(process, &proxy, assumed, scripts, &mut found);
    }
    Examination {
        reports: found.finish(),
        kinds,
        passed,
    }
}

/// Syntax of an ecosystem file.
fn script_form(file: &InputFile) -> model::CommandForm {
    let name = file.name.as_str();
    match file.text.trim_start().starts_with(['{', '[']) {
        _ if name.ends_with(discover::GENERATED) => model::CommandForm::Script { quoted: false },
        true => model::CommandForm::Script { quoted: true },
        false => model::CommandForm::Yaml,
    }
}

/// Reads lameduck's configuration from a manifest, if it has one.
fn embedded(
    forms: &[RecognisedFile],
    files: &[InputFile],
    found: &mut DoctorFindings,
) -> Option<Config> {
    let manifests = forms.iter().enumerate().filter_map(|(n, form)| match form {
        RecognisedFile::Kubernetes(documents) => Some((n, kubernetes::embedded(documents)?)),
        _ => None,
    });
    for (file, (node, text)) in manifests {
        match crate::config::parse(&files[file].name, text) {
            Ok(loaded) => return Some(loaded.config),
            Err(error) => {
                let report = error.report();
                let first = report
                    .errors()
                    .next()
                    .map_or(String::new(), |d| d.message.clone());
                let place = FindingPlace {
                    file,
                    span: node.span.clone(),
                };
                let what = format!("the lameduck.toml in it is refused: {first}");
                found.add(
                    Severity::Error,
                    checks::BROKEN_FILE,
                    &place,
                    what,
                    "`lameduck check -c lameduck.toml` says everything that is wrong with it"
                        .into(),
                );
            }
        }
    }
    None
}
