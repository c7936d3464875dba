//! Signals by name or number, as other programs write them.

use std::str::FromStr as _;

use nix::sys::signal::Signal;

/// Number of a signal that is given as a number or name (`15`, `TERM`, `SIGTERM`, `SIGRTMIN+3`); `None`: there is none.
pub fn signal_number(text: &str) -> Option<i32> {
    let text = text.trim().to_ascii_uppercase();
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let real_time = |rest: &str| match rest {
        "" => Some(0),
        rest => rest.parse::<i32>().ok(),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return Some(libc::SIGRTMIN() + real_time(rest)?);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return Some(libc::SIGRTMAX() + real_time(rest)?);
    }
    Signal::from_str(&format!("SIG{name}"))
        .ok()
        .map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_number_and_name() {
        assert_eq!(signal_number("15"), Some(15));
        assert_eq!(signal_number("SIGTERM"), Some(15));
        assert_eq!(signal_number("quit"), Some(3));
        assert_eq!(signal_number("SIGWINCH"), Some(28));
        assert_eq!(signal_number("SIGRTMIN+3"), Some(37));
        assert_eq!(signal_number("RTMAX-1"), Some(63));
        for none in ["", "SIG", "NOPE", "RTMIN+x"] {
            assert_eq!(signal_number(none), None, "{none}");
        }
    }
}
