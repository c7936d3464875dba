//! Signals as supervisors' files write them.

/// A signal's name without `SIG`.
pub(super) fn signal_name(name: &str) -> String {
    let name = name.trim().to_ascii_uppercase();
    match name.as_str() {
        "15" => "TERM".into(),
        "2" => "INT".into(),
        "3" => "QUIT".into(),
        "9" => "KILL".into(),
        name => {
            let name = name.strip_prefix("SIG").unwrap_or(name);
            name.split('+').next().unwrap_or(name).to_owned()
        }
    }
}
