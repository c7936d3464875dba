//! Keep-alive times of app servers, as far as a command or a variable tells.

use std::time::Duration;

use super::command_line::{base, seconds};

/// Keep-alive time of a server, and the setting for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeepAlive {
    pub(super) server: String,
    pub(super) time: Duration,
    /// Option that sets it, or the variable that was read.
    pub(super) setting: String,
    pub(super) written: bool,
    /// The setting is in milliseconds.
    pub(super) in_millis: bool,
}

/// Keep-alive time of this command's server, if it is known.
pub(super) fn of(app: &[String], env: &[(String, String)]) -> Option<KeepAlive> {
    let var = |name: &str| {
        env.iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let extra: Vec<String> = var("GUNICORN_CMD_ARGS")
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let words: Vec<&str> = app.iter().chain(&extra).map(String::as_str).collect();
    let option = |names: &[&str]| {
        words
            .iter()
            .enumerate()
            .find_map(|(at, word)| match word.split_once('=') {
                Some((name, value)) if names.contains(&name) => Some(value),
                None if names.contains(word) => words.get(at + 1).copied(),
                _ => None,
            })
    };
    let server = app
        .iter()
        .take(4)
        .map(|word| base(word))
        .find(|word| ["gunicorn", "uvicorn", "hypercorn", "puma"].contains(word));
    let (names, default): (&[&str], u64) = match server {
        // The default worker, `sync`, closes each connection after the response.
        Some("gunicorn") => {
            let class = option(&["-k", "--worker-class"]).unwrap_or("sync");
            let threads = option(&["--threads"])
                .and_then(|n| n.parse::<u32>().ok())
                .unwrap_or(1);
            if class == "sync" && threads <= 1 && option(&["--keep-alive"]).is_none() {
                return None;
            }
            (&["--keep-alive"], 2)
        }
        Some("uvicorn") => (&["--timeout-keep-alive"], 5),
        Some("hypercorn") => (&["--keep-alive"], 5),
        // The default is 65 s since Puma 7, and was 20 s before.
        Some("puma") => (&["--persistent-timeout"], 20),
        _ => return from_variable(env),
    };
    let written = option(names)
        .or_else(|| var("UVICORN_TIMEOUT_KEEP_ALIVE").filter(|_| server == Some("uvicorn")));
    Some(KeepAlive {
        server: server.unwrap_or_default().to_owned(),
        time: written.map_or(Some(Duration::from_secs(default)), seconds)?,
        setting: names.first().copied().unwrap_or_default().to_owned(),
        written: written.is_some(),
        in_millis: false,
    })
}

/// Time from a variable that many apps read. A value of 100 or more can only be in milliseconds.
fn from_variable(env: &[(String, String)]) -> Option<KeepAlive> {
    let (key, value) = env.iter().find(|(key, _)| {
        let key = key.to_ascii_uppercase().replace('_', "");
        [
            "KEEPALIVETIMEOUT",
            "KEEPALIVETIMEOUTMS",
            "NODEKEEPALIVETIMEOUT",
            "HTTPKEEPALIVETIMEOUT",
            "SERVERKEEPALIVETIMEOUT",
        ]
        .contains(&key.as_str())
    })?;
    let in_millis = value.parse::<u64>().is_ok_and(|number| number >= 100);
    let time = match value.parse::<u64>() {
        Ok(number) if in_millis => Duration::from_millis(number),
        _ => seconds(value)?,
    };
    // In Node, zero means never.
    (!time.is_zero()).then(|| KeepAlive {
        server: "the app".into(),
        time,
        setting: key.clone(),
        written: true,
        in_millis,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(line: &str) -> Option<u64> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        of(&words, &[]).map(|keep_alive| keep_alive.time.as_secs())
    }

    #[test]
    fn servers() {
        assert_eq!(time("gunicorn app:app"), None);
        assert_eq!(time("gunicorn -k gthread app:app"), Some(2));
        assert_eq!(time("python -m gunicorn --keep-alive 3 app:app"), Some(3));
        assert_eq!(time("uvicorn app:app"), Some(5));
        assert_eq!(time("uvicorn app:app --timeout-keep-alive=75"), Some(75));
        assert_eq!(time("node server.js"), None);
        let env = [("KEEP_ALIVE_TIMEOUT".to_owned(), "3000".to_owned())];
        assert_eq!(of(&[], &env).unwrap().time.as_secs(), 3);
    }
}
