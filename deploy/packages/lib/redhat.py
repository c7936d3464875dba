"""The .rpm: rpmbuild packs what is staged here."""
import os
import subprocess

import sbom
import tree

SPEC = tree.ROOT / "deploy/packages/rpm/lameduck.spec"


def build(work):
    tree.need("rpmbuild", "rpm")
    root = work.stage("rpm", zsh="zsh/site-functions")
    doc = root / "usr/share/doc/lameduck"
    tree.put(tree.ROOT / "CHANGELOG.md", doc / "CHANGELOG.md")
    tree.put(tree.ROOT / "LICENSE", root / "usr/share/licenses/lameduck/LICENSE")
    sbom.write(work, doc / "lameduck.cdx.json")
    work.settle(root)
    files = work.scratch / "rpm-files"
    files.write_text("%defattr(-, root, root, -)\n" + "".join(f"{line}\n" for line in listed(root)))
    top = work.place("rpmbuild")
    # An rpm's version has no hyphen: `1.0.0~rc.1` sorts before `1.0.0`, as 1.0.0-rc.1 does.
    version = work.version.replace("-", "~")
    macros = {
        "_topdir": top,
        "VERSION": version,
        "STAGE": root,
        "FILES": files,
        "_binary_payload": "w1.gzdio" if work.quick else "w9.xzdio",
        "_rpmfilename": "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
        "_dbpath": top / "db",
    }
    defines = [word for name, value in macros.items() for word in ("--define", f"{name} {value}")]
    command = ["rpmbuild", "-bb", "--quiet", "--target", f"{work.program.arch}-linux", *defines, SPEC]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(f"rpm: {done.stderr}")
    [made] = (top / "RPMS").rglob("*.rpm")
    to = work.out / made.name
    made.replace(to) if made.stat().st_dev == work.out.stat().st_dev else to.write_bytes(made.read_bytes())
    return to


def listed(root):
    """Its files, and the directories that are its own."""
    own = ["etc/lameduck", "usr/share/doc/lameduck", "usr/share/licenses/lameduck"]
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_dir():
            if any(name == one or name.startswith(f"{one}/") for one in own):
                yield f"%dir /{name}"
        elif name.startswith("etc/"):
            yield f"%config(noreplace) /{name}"
        elif "/licenses/" in name:
            yield f"%license /{name}"
        elif "/doc/" in name or "/man/" in name:
            yield f"%doc /{name}"
        else:
            yield f"/{name}"
