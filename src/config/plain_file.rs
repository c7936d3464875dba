//! Reads files that users name, without assuming that they are regular files: they may be a pipe without a writer, a
//! disk, `/dev/zero`.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::size;

/// Timeout for a silent pipe or terminal. A shell's `<(command)` writes at once; a longer silence means a pipe
/// without a writer.
const SILENCE: Duration = Duration::from_secs(10);

/// Longest file with a token, in bytes: with a wrong path, gigabytes must not be read.
pub(crate) const LONGEST_TOKEN: u64 = 4096;

/// Reads a file, a pipe or a terminal to its end, but at most `most` bytes and one more, which shows that it is
/// larger.
///
/// # Errors
/// The file can't be read; or a pipe was silent for some seconds ([`io::ErrorKind::TimedOut`]).
pub(crate) fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Without `O_NONBLOCK`, opening a pipe would wait for its writer.
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let (mut bytes, limit) = (Vec::new(), most.saturating_add(1));
    if file.metadata()?.is_file() {
        file.take(limit).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    let mut piece = [0; 8192];
    while (bytes.len() as u64) < limit {
        wait_for_input(&file)?;
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(bytes)
}

/// As [`read_file`], but refuses a larger file.
///
/// # Errors
/// As [`read_file`]; or the file is larger ([`io::ErrorKind::FileTooLarge`]).
pub(crate) fn read_whole_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let bytes = read_file(path, most)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {}", size::format(most)),
        )),
        false => Ok(bytes),
    }
}

/// As [`read_whole_file`], for a file that is read repeatedly: so it must not be a pipe, which can be read only once,
/// or a device, which has no fixed contents.
///
/// # Errors
/// As [`read_whole_file`]; or it is no regular file ([`io::ErrorKind::InvalidInput`]).
pub(crate) fn read_lasting_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it is {}, and no plain file", name_kind(kind)),
        ));
    }
    read_whole_file(path, most)
}

/// Returns the name of a kind of file, as text.
fn name_kind(kind: std::fs::FileType) -> &'static str {
    match () {
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () => "something else",
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, WouldBlock};
    matches!(error.kind(), Interrupted | WouldBlock)
}

/// Waits until there is input, or the writer has gone. Also waits for a pipe that has not had a writer yet.
fn wait_for_input(file: &File) -> io::Result<()> {
    let mut polled = [PollFd::new(file, PollFlags::IN)];
    let silence = Timespec::try_from(SILENCE).map_err(io::Error::other)?;
    match poll(&mut polled, Some(&silence)) {
        Ok(0) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nothing came from it for {} s", SILENCE.as_secs()),
        )),
        Ok(_) => Ok(()),
        Err(error) => match error.into() {
            error if is_passing(&error) => Ok(()),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn endless_device_is_read_as_far_as_allowed() {
        assert_eq!(
            read_file(Path::new("/dev/zero"), 100_000).unwrap().len(),
            100_001
        );
        assert_eq!(read_file(Path::new("/dev/null"), 10).unwrap(), b"");
    }

    #[test]
    fn directory_and_missing_file_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_file(dir.path(), 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = read_file(&dir.path().join("x"), 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn file_that_is_too_large_or_of_another_kind_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let (file, pipe) = (dir.path().join("file"), dir.path().join("pipe"));
        std::fs::write(&file, [b'x'; 5_000]).unwrap();
        assert_eq!(read_lasting_file(&file, 5_000).unwrap().len(), 5_000);
        for path in [&file, Path::new("/dev/zero")] {
            let error = read_whole_file(path, 4_096).unwrap_err().to_string();
            assert_eq!(error, "it is larger than 4KiB", "{path:?}");
        }
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for (path, kind) in [(&*pipe, "pipe"), (Path::new("/dev/zero"), "device")] {
            let error = read_lasting_file(path, 10).unwrap_err().to_string();
            assert!(error.contains(kind), "{path:?}: {error}");
        }
        let error = read_lasting_file(dir.path(), 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn named_pipe_is_read_to_its_end_whoever_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let reading = std::thread::spawn({
            let path = path.clone();
            move || read_file(&path, 1 << 20).unwrap()
        });
        // Opening for reading and writing does not wait for the reader; from now on the pipe has a writer.
        let mut writer = File::options().read(true).write(true).open(&path).unwrap();
        for _ in 0..20 {
            writer.write_all(&[b'x'; 10_000]).unwrap();
        }
        drop(writer);
        assert_eq!(reading.join().unwrap().len(), 200_000);
    }
}
