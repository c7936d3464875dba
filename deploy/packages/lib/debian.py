"""The .deb: dpkg-deb packs what is staged here."""
import email.utils
import hashlib
import os
import subprocess

import sbom
import tree

HERE = tree.ROOT / "deploy/packages/debian"

DESCRIPTION = """\
Description: reverse proxy whose rolling restarts cost no request
 lameduck stands in front of an app's instances, where nginx often stands.
 Before an instance stops, it sends that instance no more requests and waits
 until those in flight are answered. Only then may the restart go on.
 .
 It drains on its own when systemd, PM2, Docker, Kubernetes and others stop a
 process, retries and holds requests, and takes a new release of itself
 without closing a connection.
"""


def build(work):
    tree.need("dpkg-deb", "dpkg")
    root = work.stage("deb", zsh="zsh/vendor-completions")
    doc = root / "usr/share/doc/lameduck"
    version = f"{work.version}-1"
    date = email.utils.format_datetime(
        email.utils.datetime.datetime.fromtimestamp(work.epoch, email.utils.datetime.timezone.utc)
    )
    log = f"lameduck ({version}) stable; urgency=medium\n\n  * Release {work.version}; see changelog.gz.\n\n"
    tree.squeeze(f"{log} -- {tree.MAINTAINER}  {date}\n".encode(), doc / "changelog.Debian.gz")
    tree.squeeze((tree.ROOT / "CHANGELOG.md").read_bytes(), doc / "changelog.gz")
    tree.put(tree.FILES / "copyright", doc / "copyright")
    sbom.write(work, doc / "lameduck.cdx.json")
    tree.put(HERE / "lintian-overrides", root / "usr/share/lintian/overrides/lameduck")

    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) // 1024 + 1
    control = root / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        f"Package: lameduck\nVersion: {version}\nArchitecture: {work.program.debian_arch}\n"
        f"Maintainer: {tree.MAINTAINER}\nInstalled-Size: {size}\nDepends: {', '.join(depends(work.program))}\n"
        "Pre-Depends: init-system-helpers (>= 1.54~)\nSuggests: logrotate\n"
        f"Section: httpd\nPriority: optional\n{DESCRIPTION}"
    )
    etc = sorted(path for path in (root / "etc").rglob("*") if path.is_file())
    (control / "conffiles").write_text("".join(f"/{path.relative_to(root)}\n" for path in etc))
    sums = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and name.parts[0] not in ("DEBIAN", "etc"):
            sums.append(f"{hashlib.md5(path.read_bytes()).hexdigest()}  {name}\n")
    (control / "md5sums").write_text("".join(sums))
    for script in ["postinst", "prerm", "postrm"]:
        tree.put(HERE / script, control / script, 0o755)
    work.settle(root)

    to = work.out / f"lameduck_{version}_{work.program.debian_arch}.deb"
    squeeze = ["-Zgzip", "-z1"] if work.quick else ["-Zxz"]
    command = ["dpkg-deb", "--root-owner-group", *squeeze, "--build", root, to]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return to


def depends(program):
    names = ["adduser"]
    if program.glibc:
        names.append("libc6 (>= {}.{})".format(*program.glibc))
    if program.needs_gcc:
        names.append("libgcc-s1")
    return names
