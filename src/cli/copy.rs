//! `lameduck copy`: copies this binary to where another container can run it. lameduck's own image has no `cp`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::exit::Exit;

/// Options of `lameduck copy`.
#[derive(Debug, Clone, clap::Args)]
pub struct CopyArgs {
    /// A file's name, or a directory that is there
    #[arg(value_name = "PATH")]
    pub to: PathBuf,
}

/// Copies the executable. Processes that run an older copy keep it.
///
/// # Errors
/// The executable can't be read, or the copy can't be written.
pub fn run_copy(args: &CopyArgs) -> Result<(), Exit> {
    let to = match args.to.is_dir() {
        true => args.to.join("lameduck"),
        false => args.to.clone(),
    };
    copy(&to).map_err(|error| {
        Exit::failed(format!(
            "can't copy the binary to {}: {error}; name a file in a directory that this user may write to",
            to.display()
        ))
    })
}

fn copy(to: &Path) -> std::io::Result<()> {
    let mut fresh = to.as_os_str().to_owned();
    fresh.push(".new");
    // A temporary file of an earlier copy, or of another user, is replaced and never written through.
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(&fresh)?;
    std::io::copy(
        &mut std::fs::File::open(std::env::current_exe()?)?,
        &mut file,
    )?;
    file.set_permissions(std::fs::Permissions::from_mode(0o755))?;
    // A file that is being executed can't be written to, but it can be replaced.
    std::fs::rename(&fresh, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_run_there_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for to in [dir.path().to_path_buf(), dir.path().join("lameduck")] {
            run_copy(&CopyArgs { to }).unwrap();
            let meta = dir.path().join("lameduck").metadata().unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o755);
            assert!(meta.len() > 0);
        }
        let to = "/nowhere/lameduck".into();
        assert!(
            run_copy(&CopyArgs { to })
                .unwrap_err()
                .message
                .contains("/nowhere")
        );
    }
}
