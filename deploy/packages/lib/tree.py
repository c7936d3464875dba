"""What all packages have in common: the program, and the files beside it."""
import gzip
import hashlib
import os
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
FILES = ROOT / "deploy/packages/files"
MAINTAINER = "The lameduck authors <maintainers@lameduck.invalid>"
# By `e_machine`: Debian's name and the kernel's.
MACHINES = {62: ("amd64", "x86_64"), 183: ("arm64", "aarch64")}


class MissingTool(Exception):
    """A program that this machine lacks, and how to get it."""


def need(program, package):
    if not shutil.which(program):
        raise MissingTool(f"needs {program} (Debian: apt-get install {package})")


def cargo_version():
    text = (ROOT / "Cargo.toml").read_text()
    return re.search(r'^version = "(.+)"', text, re.M)[1]


def last_commit():
    asked = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        return int(subprocess.run(asked, check=True, capture_output=True).stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        # A source without its history: the first day of the epoch is as good as any, and the same everywhere.
        return 0


class Program:
    """A binary, by what its ELF header and its dynamic section say."""

    def __init__(self, path):
        self.path = path
        content = path.read_bytes()
        if content[:4] != b"\x7fELF":
            raise SystemExit(f"{path} is no program for Linux")
        machine = int.from_bytes(content[18:20], "little")
        if machine not in MACHINES:
            raise SystemExit(f"{path} is for another machine than {', '.join(m for m, _ in MACHINES.values())}")
        self.debian_arch, self.arch = MACHINES[machine]
        interpreter = re.search(rb"\0?(/lib[^\0]*/ld-[^\0]*)\0", content[:4096])
        self.interpreter = interpreter and interpreter[1].decode()
        versions = re.findall(rb"\0GLIBC_(\d+)\.(\d+)\0", content)
        self.glibc = max(((int(a), int(b)) for a, b in versions), default=None)
        self.needs_gcc = b"\0libgcc_s.so.1\0" in content


class Work:
    """One call of `build`: what is asked for, and a place to work in."""

    def __init__(self, given, epoch, scratch):
        self.version, self.quick, self.out, self.epoch = given.version, given.quick, given.out, epoch
        self.scratch = scratch
        self.program = Program(given.binary)
        self.image_program = Program(given.image_binary) if given.image_binary else self.program
        self._stripped = {}

    def place(self, name):
        place = self.scratch / name
        place.mkdir(parents=True)
        return place

    def stripped(self, program):
        """The program without debugging information, which a release build has not in the first place."""
        if program.path not in self._stripped:
            to = self.scratch / f"program-{len(self._stripped)}"
            need("strip", "binutils")
            subprocess.run(["strip", "--strip-debug", "-o", to, program.path], check=True)
            self._stripped[program.path] = to
        return self._stripped[program.path]

    def stage(self, name, zsh):
        """A tree with everything that is the same for all distributions; `zsh`: where its completions are."""
        root = self.place(name)
        put(self.stripped(self.program), root / "usr/bin/lameduck", 0o755)
        put(ROOT / "deploy/systemd/lameduck.service", root / "usr/lib/systemd/system/lameduck.service")
        put(FILES / "lameduck.sysusers", root / "usr/lib/sysusers.d/lameduck.conf")
        put(FILES / "lameduck.toml", root / "etc/lameduck/lameduck.toml")
        put(FILES / "lameduck.logrotate", root / "etc/logrotate.d/lameduck")
        share = root / "usr/share"
        completions = {
            "bash": share / "bash-completion/completions/lameduck",
            "zsh": share / zsh / "_lameduck",
            "fish": share / "fish/vendor_completions.d/lameduck.fish",
        }
        for shell, path in completions.items():
            path.parent.mkdir(parents=True)
            path.write_bytes(self.ask("completions", shell))
        self.man_pages(share / "man")
        examples = share / "doc/lameduck/examples"
        config = ROOT / "config"
        for path in sorted(config.rglob("*.toml")):
            put(path, examples / path.relative_to(config))
        for path in sorted((ROOT / "deploy/systemd").glob("app*")):
            put(path, examples / "systemd" / path.name)
        put(ROOT / "README.md", share / "doc/lameduck/README.md")
        return root

    def man_pages(self, to):
        flat = self.scratch / "man"
        if not flat.exists():
            self.ask("man", flat)
        for page in sorted(flat.iterdir()):
            place = to / f"man{page.suffix[1:]}"
            place.mkdir(parents=True, exist_ok=True)
            squeeze(page.read_bytes(), place / f"{page.name}.gz")

    def ask(self, *words):
        """What the program itself prints."""
        return subprocess.run([self.program.path.resolve(), *words], check=True, capture_output=True).stdout

    def settle(self, root):
        """Gives everything in a tree the one time, and modes that no umask has touched."""
        for path in sorted(root.rglob("*"), reverse=True):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            os.utime(path, (self.epoch, self.epoch), follow_symlinks=False)
        os.utime(root, (self.epoch, self.epoch))


def put(source, to, mode=0o644):
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, to)
    to.chmod(mode)


def squeeze(content, to, level=9):
    with open(to, "wb") as raw, gzip.GzipFile("", "wb", level, raw, mtime=0) as out:
        out.write(content)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(out, made):
    """`sha256sum --check SHA256SUMS` in the directory reads it. What an earlier call made there stays in it."""
    sums = out / "SHA256SUMS"
    known = {}
    if sums.exists():
        for line in sums.read_text().splitlines():
            value, name = line.split("  ", 1)
            if (out / name).exists():
                known[name] = value
    known.update((path.name, digest(path)) for path in made)
    sums.write_text("".join(f"{known[name]}  {name}\n" for name in sorted(known)))
    return sums
