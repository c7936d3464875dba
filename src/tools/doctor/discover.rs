//! Reads files: finds supervisors' files, and evaluates `.js` ecosystem files.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::InputFile;
use super::include;
use super::node;
use super::template::rendered_name;
use crate::config::plain_file::read_lasting_file;

/// Suffix for the name of a file whose text Node has printed: its lines are not those of the user's file.
pub(super) const GENERATED: &str = " (evaluated)";

/// Largest file that is read, in bytes.
pub(super) const MAX_SIZE: u64 = 4 << 20;

/// Name of the text from standard input.
pub(super) const STANDARD_INPUT: &str = "(standard input)";

/// Most files that are read, including included ones.
const MAX_FILES: usize = 200;

/// Names that are looked for if no file is given.
pub const LOOKED_FOR: &str = "oxfile.toml, ecosystem.config.{js,cjs,json,yaml,yml}, *.service, supervisord.conf, *.yaml and *.yml with `kind:` or `services:`";

/// Reads files (`-`: standard input), with the drop-ins of a unit and the includes of supervisord's configuration. The
/// errors are messages for users.
pub fn read(paths: &[PathBuf]) -> (Vec<InputFile>, Vec<String>) {
    let (mut files, mut errors) = (Vec::<InputFile>::new(), Vec::new());
    let mut all = Vec::new();
    for path in paths {
        all.push(path.clone());
        all.extend(drop_ins(path));
    }
    let mut next = 0;
    while let Some(path) = all.get(next).cloned() {
        next += 1;
        match read_one(&path) {
            Ok(file) if files.iter().any(|other| other.name == file.name) => {}
            Ok(file) => {
                let room = MAX_FILES.saturating_sub(all.len());
                all.extend(include::files(&path, &file.text).into_iter().take(room));
                files.push(file);
            }
            Err(why) => errors.push(format!("can't read {}: {why}", path.display())),
        }
    }
    (files, errors)
}

/// The `scripts` of package.json beside a file, which `npm start` runs.
fn scripts(path: &Path) -> Vec<(String, String)> {
    let beside = path.parent().unwrap_or(Path::new("")).join("package.json");
    let text = read_lasting_file(&beside, MAX_SIZE).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let scripts = json["scripts"].as_object().into_iter().flatten();
    scripts
        .filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())))
        .collect()
}

fn standard_input() -> Result<InputFile, String> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(MAX_SIZE + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err("it is larger than 4 MiB: is it a configuration?".into());
    }
    Ok(InputFile {
        name: STANDARD_INPUT.into(),
        text: decode(bytes)?,
        ..InputFile::default()
    })
}

fn decode(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|byte| *byte == b'\n').count();
        format!("line {line} is not UTF-8; save the file as UTF-8")
    })
}

fn read_one(path: &Path) -> Result<InputFile, String> {
    if path == Path::new("-") {
        return standard_input();
    }
    let name = path.display().to_string();
    let end = path
        .extension()
        .and_then(|end| end.to_str())
        .filter(|_| rendered_name(&name) == name)
        .unwrap_or_default();
    let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if meta.is_dir() {
        if path.join("Chart.yaml").is_file() {
            return Err(format!(
                "it is a Helm chart; render it first: `helm template {name} | lameduck doctor -`"
            ));
        }
        // Service directories of runit and s6.
        if path.join("run").is_file() {
            return read_one(&path.join("run"));
        }
        return Err("it is a directory; name the files themselves".into());
    }
    if !meta.is_file() {
        return Err("it is not a plain file; name the files themselves".into());
    }
    if meta.len() > MAX_SIZE {
        return Err("it is larger than 4 MiB: is it a configuration?".into());
    }
    if ["js", "cjs", "mjs"].contains(&end) {
        return Ok(InputFile {
            name: name + GENERATED,
            text: node::evaluate(path)?,
            scripts: scripts(path),
        });
    }
    // Files in `/proc` and the like are longer than their size says.
    let bytes = read_lasting_file(path, MAX_SIZE).map_err(|error| error.to_string())?;
    Ok(InputFile {
        name,
        text: decode(bytes)?,
        scripts: scripts(path),
    })
}

/// Drop-ins: `api.service.d/*.conf` beside `api.service`.
fn drop_ins(unit: &Path) -> Vec<PathBuf> {
    if unit.extension().is_none_or(|end| end != "service") {
        return Vec::new();
    }
    let mut dir = unit.as_os_str().to_owned();
    dir.push(".d");
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "conf"))
        .collect();
    found.sort();
    found
}

/// Files of a directory that look like a supervisor's.
pub fn here(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && looks_like_config(path))
        .collect();
    found.sort();
    found
}

fn looks_like_config(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    let stem = name.split('.').next().unwrap_or_default();
    match name {
        "oxfile.toml" | "supervisord.conf" => true,
        _ if stem == "ecosystem" => {
            yaml || [".js", ".cjs", ".json"]
                .iter()
                .any(|end| name.ends_with(end))
        }
        _ if name.ends_with(".service") => true,
        _ if yaml => read_lasting_file(path, MAX_SIZE).is_ok_and(|bytes| {
            String::from_utf8_lossy(&bytes)
                .lines()
                .any(|line| line.starts_with("kind:") || line.starts_with("services:"))
        }),
        _ => false,
    }
}
