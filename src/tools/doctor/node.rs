//! Evaluates a `.js` ecosystem file with Node, to JSON.
//!
//! The file is a program of the user: it may print, run for ever, or export something else. So the result is enclosed
//! in two random marks, its own output is discarded, and time and size are limited.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::discover::MAX_SIZE;

/// Longest run of Node.
const TIME: Duration = Duration::from_secs(5);

/// Evaluates the file (`argv[1]`) and prints its export between marks (`argv[2]`): `J` and the JSON, or an error.
const EVALUATE: &str = r#"
const fs = require('fs'), path = process.argv[1], mark = process.argv[2];
const say = text => {
  const all = Buffer.from(mark + text + mark);
  for (let at = 0; at < all.length;) {
    try { at += fs.writeSync(1, all, at); } catch (e) { if (e.code !== 'EAGAIN') throw e; }
  }
};
let said = false;
const end = text => { if (!said) { said = true; say(text); } process.reallyExit(0); };
process.on('exit', () => { if (!said) say('Xprocess.exit'); });
process.stdout.write = process.stderr.write = (...rest) => {
  const last = rest[rest.length - 1];
  if (typeof last === 'function') last();
  return true;
};
const error = e => {
  const text = e && e.message || String(e);
  const frame = String(e && e.stack || '').split('\n')[0];
  const line = e instanceof SyntaxError && /:(\d+)$/.exec(frame);
  end('E' + (e && e.name ? e.name + ': ' : '') + text.split('\n')[0] + (line ? ' (line ' + line[1] + ')' : ''));
};
process.on('uncaughtException', error);
process.on('unhandledRejection', error);
import(require('url').pathToFileURL(path).href).then(module => {
  const value = 'default' in module ? module.default : module;
  if (typeof value === 'function') return end('F');
  if (value && typeof value.then === 'function') return end('P');
  if (value === undefined || value === null || typeof value !== 'object' || Object.keys(value).length === 0) return end('U');
  const plain = (key, value) => {
    if (typeof value === 'bigint') return String(value);
    if (typeof value === 'number' && !Number.isFinite(value)) return '${not a number}';
    return value;
  };
  let text;
  try { text = JSON.stringify(value, plain, 2); } catch (e) {
    if (/circular/i.test(e && e.message)) return end('C');
    return error(e);
  }
  end('J' + text);
}, error);
"#;

/// Hint how to do without Node.
const CONVERT: &str = "convert it: `node -p 'JSON.stringify(require(\"./ecosystem.config.js\"))' > ecosystem.json`, and name that";

/// Runs Node on a file.
///
/// # Errors
/// A message for the user: Node is missing; or the file fails, takes too long, prints too much, or exports something
/// else.
pub(super) fn evaluate(path: &Path) -> Result<String, String> {
    let whole = std::path::absolute(path).map_err(|error| error.to_string())?;
    let mark = format!("\n<{:016x}{:016x}>\n", fastrand::u64(..), fastrand::u64(..));
    let mut node = Command::new("node")
        .args(["-e", EVALUATE, "--"])
        .arg(&whole)
        .arg(&mark)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Processes that it starts end with it.
        .process_group(0)
        .spawn()
        .map_err(|error| {
            format!("`node` can't be run to evaluate it ({error}); where Node is, {CONVERT}")
        })?;
    let pipe = node.stdout.take();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // Unreadable output counts as no output.
        let _ = pipe.map(|pipe| pipe.take(MAX_SIZE + 1).read_to_end(&mut bytes));
        // The receiver is gone if the time is over.
        let _ = sender.send(bytes);
    });
    let end = Instant::now() + TIME;
    let said = receiver.recv_timeout(end.saturating_duration_since(Instant::now()));
    // A failure means that it has ended already.
    let _ = crate::rt::syscall::kill_group(node.id(), libc::SIGKILL);
    let _ = node.wait();
    let Ok(bytes) = said else {
        return Err(format!(
            "Node took more than {} s over it: it waits for something; make it export its apps at once, or {CONVERT}",
            TIME.as_secs()
        ));
    };
    if bytes.len() as u64 > MAX_SIZE {
        return Err("it prints more than 4 MiB: is it a configuration?".into());
    }
    let text = String::from_utf8_lossy(&bytes);
    let result = text.split(mark.as_str()).nth(1);
    outcome(result.unwrap_or("X"))
}

/// Content between the marks.
fn outcome(said: &str) -> Result<String, String> {
    const WANTED: &str = "PM2 wants an object: `module.exports = { apps: [ … ] }`";
    let (kind, rest) = said.split_at(said.len().min(1));
    let why = match kind {
        "J" => return Ok(rest.to_owned()),
        "F" => format!("it exports a function, which PM2 doesn't call; {WANTED}"),
        "P" => format!("it exports a promise, which PM2 doesn't wait for; {WANTED}"),
        "U" => format!("it exports nothing; {WANTED}"),
        "C" => "what it exports contains itself (a circle), so it can't be written down; export plain values".into(),
        "E" if rest.contains("Cannot find module") || rest.contains("Cannot find package") => {
            format!("Node says: {rest}; install what it needs (`npm ci`), or {CONVERT}")
        }
        "E" if rest.contains("module is not defined") || rest.contains("require is not defined") => {
            format!("Node says: {rest}; its package is one of ES modules: name the file ecosystem.config.cjs")
        }
        "E" => format!("Node says: {rest}; mend it, or {CONVERT}"),
        _ => format!("it ends Node before it has exported anything (process.exit?); {WANTED}"),
    };
    Err(why)
}
