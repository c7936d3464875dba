//! Where things are.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The binary under test: `target/PROFILE/lameduck`, beside the directory of the test's own binary. Cargo builds it before
/// any test. (`CARGO_BIN_EXE_lameduck` is known only to the tests' own crates when they are compiled.)
pub fn exe() -> &'static Path {
    static EXE: LazyLock<PathBuf> = LazyLock::new(|| {
        let exe = profile_dir().join("lameduck");
        assert!(exe.is_file(), "{} is not there", exe.display());
        exe
    });
    &EXE
}

/// The repository.
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.join("../..").canonicalize().unwrap()
    });
    &ROOT
}

/// Where cargo builds into.
pub fn target() -> &'static Path {
    profile_dir().parent().unwrap()
}

/// A program of the virtual environment that `tests/setup.sh` has made; `None` without it.
pub fn in_venv(venv: &str, program: &str) -> Option<PathBuf> {
    let path = venvs().join(venv).join("bin").join(program);
    path.is_file().then_some(path)
}

/// `prometheus` or `promtool`: as `tests/setup.sh` has unpacked it, or as it is installed; `None` without it.
pub fn prometheus(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let unpacked = venvs().join("prometheus/usr/bin");
    let mut places = std::iter::once(unpacked).chain(std::env::split_paths(&path));
    places.find_map(|place| Some(place.join(program)).filter(|path| path.is_file()))
}

/// Where `tests/setup.sh` makes its virtual environments, wherever cargo builds into.
pub fn venvs() -> PathBuf {
    root().join("target")
}

/// The directory of `make prove`'s figures.
pub fn prove() -> PathBuf {
    let dir = target().join("prove");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// The name of the running test binary, `e2e`.
pub fn test_binary() -> &'static str {
    static NAME: LazyLock<String> = LazyLock::new(|| {
        let exe = std::env::current_exe().unwrap();
        let name = exe.file_name().unwrap().to_str().unwrap();
        name.rsplit_once('-')
            .map_or(name, |(name, _)| name)
            .to_owned()
    });
    &NAME
}

fn profile_dir() -> &'static Path {
    static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
        let test = std::env::current_exe().unwrap();
        // target/PROFILE/deps/TEST-HASH
        test.ancestors().nth(2).unwrap().to_owned()
    });
    &DIR
}
