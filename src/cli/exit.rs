//! How a command ends: the exit codes, and what is said on standard error.

use crate::client::error::{ClientError, ClientErrorKind};

/// Every exit code, and what it means.
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

/// Prints what the parser has to say, help or a mistake, and says with which code that ends.
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
    // Help was asked for.
    match Exit::answered(error.print()) {
        Ok(()) => code,
        Err(exit) => exit.report(),
    }
}

/// An end other than success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code.
    pub code: u8,
    /// What happened and what to do, for people; empty: nothing is left to say.
    pub message: String,
}

impl Exit {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// 1: it failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(1, message)
    }

    /// 2: wrong usage that the parser can't see.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(2, message)
    }

    /// 3: a deadline passed, or `--wait` ran out.
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

    /// 6: a plan ended before it had reached its share.
    pub fn went_back(message: impl Into<String>) -> Self {
        Self::new(6, message)
    }

    /// 7: a report has what it must not have, or is not what the logs say.
    pub fn broken_report(message: impl Into<String>) -> Self {
        Self::new(7, message)
    }

    /// 130: interrupted.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(130, message)
    }

    /// How a command ends whose product was to be written: 1 if it could not be, unless its reader had seen enough.
    ///
    /// # Errors
    /// That end.
    pub fn answered(written: std::io::Result<()>) -> Result<(), Self> {
        crate::rt::output::answered(written).map_err(Self::failed)
    }

    /// Says it on standard error; returns the code.
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
