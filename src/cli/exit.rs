//! How a command ends: its exit code, and its message on standard error.

use crate::client::error::{ClientError, ClientErrorKind};

/// Every exit code with its meaning.
pub const CODES: [(u8, &str); 9] = [
    (0, "done"),
    (1, "failed, or not healthy"),
    (2, "usage"),
    (
        3,
        "a deadline passed and requests were cut, or a wait ran out; `import`: something was left out",
    ),
    (4, "the backend died while draining"),
    (5, "the proxy can't be reached"),
    (
        6,
        "`split`: the plan went back, or was ended before it had reached its share",
    ),
    (
        7,
        "`report --fail-on`: it has happened; `verify`: the log says otherwise",
    ),
    (130, "interrupted"),
];

/// Prints the parser's output (help or an error), and returns the exit code.
pub fn explain(error: &clap::Error) -> u8 {
    let code = u8::try_from(error.exit_code()).unwrap_or(2);
    if error.use_stderr() {
        let text = error.render();
        match crate::rt::output::error_colour() {
            true => crate::rt::output::say(&text.ansi().to_string()),
            false => crate::rt::output::say(&text.to_string()),
        }
        return code;
    }
    // The user asked for help.
    match Exit::answered(error.print()) {
        Ok(()) => code,
        Err(exit) => exit.report(),
    }
}

/// A failed end of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Exit code.
    pub code: u8,
    /// What happened and what to do, for users; empty: everything was said already.
    pub message: String,
}

impl Exit {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// 1: the command failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(1, message)
    }

    /// 2: wrong usage that the parser can't detect.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(2, message)
    }

    /// 3: a deadline has passed, or the time of `--wait`.
    pub fn late(message: impl Into<String>) -> Self {
        Self::new(3, message)
    }

    /// 4: the backend died while draining.
    pub fn died(message: impl Into<String>) -> Self {
        Self::new(4, message)
    }

    /// 5: the proxy can't be reached.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(5, message)
    }

    /// 6: a plan ended before it had reached its target share.
    pub fn went_back(message: impl Into<String>) -> Self {
        Self::new(6, message)
    }

    /// 7: a report contains a forbidden outcome, or does not match the logs.
    pub fn broken_report(message: impl Into<String>) -> Self {
        Self::new(7, message)
    }

    /// 130: interrupted.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(130, message)
    }

    /// End of a command whose output was written: 1 if that failed, unless the reader closed the pipe.
    ///
    /// # Errors
    /// The output could not be written.
    pub fn answered(written: std::io::Result<()>) -> Result<(), Self> {
        crate::rt::output::answered(written).map_err(Self::failed)
    }

    /// Prints the message on standard error, and returns the exit code.
    pub fn report(&self) -> u8 {
        if !self.message.is_empty() {
            crate::rt::output::complain(&self.message);
        }
        self.code
    }
}

impl From<ClientError> for Exit {
    fn from(error: ClientError) -> Self {
        match error.kind {
            ClientErrorKind::Failed => Self::failed(error.message),
            ClientErrorKind::Late => Self::late(error.message),
            ClientErrorKind::Unreachable | ClientErrorKind::Broken => {
                Self::unreachable(error.message)
            }
        }
    }
}
