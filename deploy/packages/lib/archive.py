"""Archives whose bytes depend on nothing but their content; and the one for everybody else: the program and its papers."""
import gzip
import io
import tarfile

import tree


def pack(entries, epoch):
    """A tar file of (name, content or None for a directory, mode, user)."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content, mode, user in entries:
            info = tarfile.TarInfo(name)
            info.mtime, info.mode, info.uid, info.gid = epoch, mode, user, user
            if content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def squeeze(content, level):
    raw = io.BytesIO()
    with gzip.GzipFile("", "wb", level, raw, mtime=0) as out:
        out.write(content)
    return raw.getvalue()


def build(work):
    name = f"lameduck-{work.version}-{work.program.arch}-linux"
    root = work.stage("archive", zsh="zsh/site-functions")
    tree.put(tree.ROOT / "LICENSE", root / "usr/share/doc/lameduck/LICENSE")
    entries = []
    for path in sorted(root.rglob("*")):
        if path.is_file():
            mode = 0o755 if path.parent.name == "bin" else 0o644
            entries.append((f"{name}/{path.relative_to(root)}", path.read_bytes(), mode, 0))
    to = work.out / f"{name}.tar.gz"
    to.write_bytes(squeeze(pack(entries, work.epoch), 1 if work.quick else 9))
    return to
