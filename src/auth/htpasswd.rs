//! A file of users and hashes of their passwords, as Apache's `htpasswd` writes it.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use subtle::ConstantTimeEq as _;

use crate::config::plain_file::read_lasting_file;

/// Largest file of users, in bytes.
const LONGEST_FILE: u64 = 4 << 20;

/// Highest cost of bcrypt; a check then takes some seconds.
const HIGHEST_COST: u32 = 15;

/// Longest password that is checked, in bytes; bcrypt uses the first 72.
pub const LONGEST_PASSWORD: usize = 1024;

/// Users with their password hashes.
pub struct UserFile {
    /// SHA-256 of the text; files with the same text are equal.
    digest: [u8; 32],
    users: HashMap<Box<[u8]>, usize>,
    /// Entries in the file's order; at least one.
    entries: Vec<(Arc<str>, PasswordHash)>,
}

enum PasswordHash {
    /// `$2a$`, `$2b$` or `$2y$`.
    Bcrypt(Box<str>),
    /// `{SHA}`, without a salt.
    Sha1([u8; 20]),
}

/// A problem with a file of users. It names the line, but nothing of its content, which is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFileError {
    /// Line number from 1; `None`: the whole file.
    pub line: Option<usize>,
    /// What is wrong there.
    pub why: String,
    /// What the user can do.
    pub remedy: String,
}

impl UserFileError {
    fn new(line: Option<usize>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            line,
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

/// Hint for a line that can't be used.
const WRITE_BCRYPT: &str = "write the password anew: `htpasswd -B FILE USER`";

impl UserFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, Vec<UserFileError>> {
        let bytes = read_lasting_file(path, LONGEST_FILE).map_err(|error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    format!("make it: `htpasswd -cB {} USER`", path.display())
                }
                std::io::ErrorKind::PermissionDenied => {
                    format!(
                        "let lameduck's user read it: `ls -l {}` shows who may",
                        path.display()
                    )
                }
                _ => "name a text file with one `user:hash` on each line".into(),
            };
            let why = format!("can't be read: {}", crate::config::plain(&error));
            vec![UserFileError::new(None, why, remedy)]
        })?;
        Self::parse(&bytes)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// As for [`UserFile::load`].
    pub fn parse(text: &[u8]) -> Result<Self, Vec<UserFileError>> {
        let mut file = Self {
            digest: [0; 32],
            users: HashMap::new(),
            entries: Vec::new(),
        };
        file.digest.copy_from_slice(digest(&SHA256, text).as_ref());
        let (mut problems, mut lines) = (Vec::new(), Vec::new());
        for (n, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.trim_ascii().is_empty() || line.starts_with(b"#") {
                continue;
            }
            match parse_line(line) {
                Ok((name, hash)) => {
                    let next = file.entries.len();
                    let first = *file.users.entry(name.as_bytes().into()).or_insert(next);
                    if first != next {
                        let why = format!("the user of line {} once more", lines[first]);
                        let remedy = "remove one of the two lines";
                        problems.push(UserFileError::new(Some(n + 1), why, remedy));
                        continue;
                    }
                    lines.push(n + 1);
                    file.entries.push((name.into(), hash));
                }
                Err((why, remedy)) => problems.push(UserFileError::new(Some(n + 1), why, remedy)),
            }
        }
        if problems.is_empty() && file.entries.is_empty() {
            problems.push(UserFileError::new(
                None,
                "has no user: nobody could get in",
                "add one: `htpasswd -B FILE USER`",
            ));
        }
        match problems.is_empty() {
            true => Ok(file),
            false => Err(problems),
        }
    }

    /// SHA-256 of the text that was parsed.
    pub fn text_digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Name of the user, if they exist and the password is theirs. The duration does not reveal which names exist: an
    /// unknown name is checked against the hash of a known one, always the same.
    pub fn check(&self, user: &[u8], password: &[u8]) -> Option<Arc<str>> {
        static DISGUISE: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let stand_in = DISGUISE.hash_one(user) as usize % self.entries.len();
        let found = self.users.get(user).copied();
        let (name, hash) = &self.entries[found.unwrap_or(stand_in)];
        let is_right = hash.fits(password);
        (is_right && found.is_some()).then(|| name.clone())
    }
}

impl PasswordHash {
    /// Whether this is the hash of this password.
    fn fits(&self, password: &[u8]) -> bool {
        // bcrypt in C, which wrote the file, stops at a zero byte.
        let is_sane = password.len() <= LONGEST_PASSWORD && !password.contains(&0);
        let password = if is_sane { password } else { b"" };
        let fits = match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Sha1(hash) => {
                let own = digest(&SHA1_FOR_LEGACY_USE_ONLY, password);
                bool::from(own.as_ref().ct_eq(hash))
            }
        };
        fits && is_sane
    }
}

/// Two files with the same text are equal.
impl PartialEq for UserFile {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl fmt::Debug for UserFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserFile({} users)", self.entries.len())
    }
}

type LineError = (String, String);

fn parse_line(line: &[u8]) -> Result<(&str, PasswordHash), LineError> {
    let say = |why: &str, remedy: &str| Err((why.to_owned(), remedy.to_owned()));
    let Ok(line) = std::str::from_utf8(line) else {
        return say("it is not UTF-8", "write the file anew as text");
    };
    let Some((name, hash)) = line.split_once(':') else {
        return say("it has no colon", "write it as `user:hash`");
    };
    if name.is_empty() {
        return say("it has no user before its colon", WRITE_BCRYPT);
    }
    if name.len() > 255 || name.chars().any(char::is_control) {
        return say("that can't be a user's name", WRITE_BCRYPT);
    }
    // Some programs write comments or groups after another colon.
    let hash = hash.split(':').next().unwrap_or_default().trim();
    let scheme = |name: &str| {
        let why = format!("{name} is not taken: bcrypt and {{SHA}} are");
        Err((why, WRITE_BCRYPT.to_owned()))
    };
    if let Some(sha) = hash.strip_prefix("{SHA}") {
        let decoded = STANDARD.decode(sha).ok();
        return match decoded.and_then(|bytes| <[u8; 20]>::try_from(bytes).ok()) {
            Some(sha) => Ok((name, PasswordHash::Sha1(sha))),
            None => say("its {SHA} hash is damaged", WRITE_BCRYPT),
        };
    }
    match hash {
        "" => say("it has no hash behind its colon", WRITE_BCRYPT),
        _ if hash.starts_with("$apr1$") => scheme("Apache's MD5 (apr1)"),
        _ if hash.starts_with("$1$") => scheme("MD5 ($1$)"),
        _ if hash.starts_with("$5$") => scheme("SHA-256 crypt ($5$)"),
        _ if hash.starts_with("$6$") => scheme("SHA-512 crypt ($6$)"),
        _ if hash.starts_with("$y$") => scheme("yescrypt ($y$)"),
        _ if hash.starts_with("$argon2") => scheme("Argon2"),
        _ if hash.starts_with("$2x$") => scheme("the broken bcrypt of 2011 ($2x$)"),
        _ if hash.starts_with("{SSHA}") => scheme("{SSHA}"),
        _ if hash.starts_with("{PLAIN}") => scheme("a password in the clear ({PLAIN})"),
        _ if ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|start| hash.starts_with(start)) =>
        {
            match HashParts::from_str(hash) {
                Ok(parts) if parts.get_cost() > HIGHEST_COST => {
                    let cost = parts.get_cost();
                    let why = format!("a cost of {cost}: each check would take many seconds");
                    let remedy = format!(
                        "write it anew with a cost of 10 to {HIGHEST_COST}: `htpasswd -B -C 12 FILE USER`"
                    );
                    Err((why, remedy))
                }
                Ok(parts) if parts.get_cost() >= 4 && hash.len() == 60 => {
                    Ok((name, PasswordHash::Bcrypt(hash.into())))
                }
                _ => say("its bcrypt hash is damaged", WRITE_BCRYPT),
            }
        }
        _ if hash.len() == 13 => scheme("crypt, or a password in the clear,"),
        _ => scheme("what stands behind its colon"),
    }
}

#[cfg(test)]
mod tests;
