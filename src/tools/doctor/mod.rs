//! `lameduck doctor`: what in a supervisor's configuration will cut requests.
//!
//! In reading order: [`checks`] is the catalogue; `model` is what every reader makes of its file: processes, and
//! how they are stopped; `checks_common` holds the checks that are the same under every supervisor, `arithmetic` their sums;
//! `advice` writes what is to be written instead, in the file's own syntax, `coordination` says which way fits.
//! A check that one supervisor alone can fail is in its reader, which gives its findings to `finding` at once.
//! One reader for each supervisor (`oxfile`, `pm2`, `systemd`, `supervisord`, `kubernetes`, `compose`) over three
//! forms of text (`toml` for TOML, `yaml` for YAML and JSON, `ini`). `recognise` tells them apart.
//! Command lines are split by `shell`, looked through by `wrappers`, and understood by `command_line` and `programs`.

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

/// What an examination found.
#[derive(Debug)]
pub struct Examination {
    /// One for each file, in their order.
    pub reports: Vec<ConfigReport>,
    /// What each file was taken for, such as "Oxmgr's Oxfile".
    pub kinds: Vec<&'static str>,
    /// Whether it was understood and nothing in it is judged.
    pub passed: Vec<bool>,
}

/// Options of an examination.
#[derive(Debug, Clone, Copy)]
pub struct DoctorOptions {
    /// What an app is taken to need from its signal to its end, with nothing in flight. Default 5 s.
    pub app_stop: Duration,
}

impl Default for DoctorOptions {
    fn default() -> Self {
        DoctorOptions {
            app_stop: Duration::from_secs(5),
        }
    }
}

/// Judges files next to lameduck's own configuration, if there is one. Never panics, whatever the files hold.
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

/// How an ecosystem file is written.
fn script_form(file: &InputFile) -> model::CommandForm {
    let name = file.name.as_str();
    match file.text.trim_start().starts_with(['{', '[']) {
        _ if name.ends_with(discover::GENERATED) => model::CommandForm::Script { quoted: false },
        true => model::CommandForm::Script { quoted: true },
        false => model::CommandForm::Yaml,
    }
}

/// A manifest may bring the configuration along.
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
