//! Reading from disk: which files there are, and what a `.js` ecosystem file evaluates to.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Input;

/// Appended to the name of a file whose text was printed by Node: its lines are not the user's.
pub(super) const GENERATED: &str = " (evaluated)";

/// Larger files are no configuration.
const MAX_SIZE: u64 = 4 << 20;

/// What Node has for an ecosystem file.
const NODE_TIME: Duration = Duration::from_secs(10);

/// What is looked for where no file is named.
pub const LOOKED_FOR: &str = "oxfile.toml, ecosystem.config.{js,cjs,json,yaml,yml}, *.service, supervisord.conf, *.yaml and *.yml with `kind:` or `services:`";

/// Reads files; with a unit, its drop-ins come along. The errors are for people.
pub fn read(paths: &[PathBuf]) -> (Vec<Input>, Vec<String>) {
    let (mut files, mut errors) = (Vec::<Input>::new(), Vec::new());
    let mut all = Vec::new();
    for path in paths {
        all.push(path.clone());
        all.extend(drop_ins(path));
    }
    for path in all {
        match one(&path) {
            Ok(file) if files.iter().any(|other| other.name == file.name) => {}
            Ok(file) => files.push(file),
            Err(why) => errors.push(format!("can't read {}: {why}", path.display())),
        }
    }
    (files, errors)
}

fn one(path: &Path) -> Result<Input, String> {
    let name = path.display().to_string();
    let end = path
        .extension()
        .and_then(|end| end.to_str())
        .unwrap_or_default();
    let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("it is not a plain file; name the files themselves".into());
    }
    if meta.len() > MAX_SIZE {
        return Err("it is larger than 4 MiB: is it a configuration?".into());
    }
    if ["js", "cjs", "mjs"].contains(&end) {
        return Ok(Input {
            name: name + GENERATED,
            text: evaluate(path)?,
        });
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|byte| *byte == b'\n').count();
        format!("line {line} is not UTF-8; save the file as UTF-8")
    })?;
    Ok(Input { name, text })
}

/// `api.service.d/*.conf` beside `api.service`.
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

/// What Node makes of an ecosystem file, as JSON.
fn evaluate(path: &Path) -> Result<String, String> {
    const PRINT: &str = "import(require('url').pathToFileURL(process.argv[1]).href).then(m => \
        process.stdout.write(JSON.stringify(m.default ?? m)), e => { console.error(String(e)); process.exit(1) })";
    const CONVERT: &str = "convert it: `node -p 'JSON.stringify(require(\"./ecosystem.config.js\"))' > ecosystem.json`, and name that";
    let whole = std::path::absolute(path).map_err(|error| error.to_string())?;
    let mut node = Command::new("node")
        .args(["-e", PRINT, "--"])
        .arg(&whole)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            format!("`node` can't be run to evaluate it ({error}); where Node is, {CONVERT}")
        })?;
    let drain = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            // What can't be read is as good as empty: the parser will say so.
            let _ = pipe.map(|pipe| pipe.take(MAX_SIZE).read_to_string(&mut text));
            text
        })
    };
    let out = drain(node.stdout.take().map(|pipe| Box::new(pipe) as Box<_>));
    let err = drain(node.stderr.take().map(|pipe| Box::new(pipe) as Box<_>));
    let end = Instant::now() + NODE_TIME;
    let status = loop {
        match node.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) | Err(_) => {
                // Its end is all that is wanted; a failure means that it has ended already.
                let _ = node.kill();
                let _ = node.wait();
                return Err(format!(
                    "Node took more than {} s over it; {CONVERT}",
                    NODE_TIME.as_secs()
                ));
            }
        }
    };
    let text = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    if status.success() {
        Ok(text(out))
    } else {
        let why = text(err);
        let first = why
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it failed");
        Err(format!("Node says: {first}; mend it, or {CONVERT}"))
    }
}

/// The files of a directory that look like a supervisor's.
pub fn here(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && fits(path))
        .collect();
    found.sort();
    found
}

fn fits(path: &Path) -> bool {
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
        _ if yaml => std::fs::read_to_string(path).is_ok_and(|text| {
            text.lines()
                .any(|line| line.starts_with("kind:") || line.starts_with("services:"))
        }),
        _ => false,
    }
}
