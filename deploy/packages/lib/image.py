"""The container image, as an OCI image layout in a tar file: `podman load -i`, `docker load -i`, `skopeo copy oci-archive:`.

It is what deploy/docker/Dockerfile builds: the program, its directories, the authorities; no shell, no root. A program
that is not static brings its interpreter and its libraries.
"""
import hashlib
import json
import pathlib
import subprocess
import datetime

import archive
import tree

USER = 65532
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
PLATFORMS = {"x86_64": "amd64", "aarch64": "arm64"}
SECOND = 1_000_000_000


def files(work):
    """Path → (content or None, mode, user)."""
    program = work.image_program
    found = {
        "lameduck": (work.stripped(program).read_bytes(), 0o755, 0),
        "etc/lameduck/lameduck.toml": ((tree.ROOT / "config/container.toml").read_bytes(), 0o644, 0),
        "run/lameduck": (None, 0o770, USER),
        "var/lib/lameduck": (None, 0o770, USER),
    }
    authorities = pathlib.Path(AUTHORITIES)
    if not authorities.exists():
        raise tree.MissingTool(f"needs {AUTHORITIES} (Debian: apt-get install ca-certificates)")
    found[AUTHORITIES[1:]] = (authorities.read_bytes(), 0o644, 0)
    if program.interpreter:
        for library in libraries(program):
            found[library[1:]] = (pathlib.Path(library).read_bytes(), 0o755, 0)
    for name in list(found):
        for parent in pathlib.PurePath(name).parents:
            if str(parent) != ".":
                found.setdefault(str(parent), (None, 0o755, 0))
    return found


def libraries(program):
    said = subprocess.run(["ldd", program.path], check=True, capture_output=True, text=True).stdout
    for line in said.splitlines():
        words = line.split()
        paths = [word for word in words if word.startswith("/")]
        if paths:
            yield paths[0]


def config(work, layer_id):
    created = datetime.datetime.fromtimestamp(work.epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "created": created,
        "architecture": PLATFORMS[work.image_program.arch],
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "ExposedPorts": {"8080/tcp": {}, "9902/tcp": {}},
            "Entrypoint": ["/lameduck"],
            "Cmd": ["run", "-c", "/etc/lameduck/lameduck.toml"],
            "StopSignal": "SIGTERM",
            "Healthcheck": {"Test": ["CMD", "/lameduck", "status"], "Interval": 10 * SECOND, "Timeout": 3 * SECOND},
            "Labels": {
                "org.opencontainers.image.title": "lameduck",
                "org.opencontainers.image.version": work.version,
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_id}"]},
        "history": [{"created": created, "created_by": "deploy/packages/build image"}],
    }


def build(work):
    found = files(work)
    entries = [(name, content, mode, user) for name, (content, mode, user) in sorted(found.items())]
    plain = archive.pack(entries, work.epoch)
    layer = archive.squeeze(plain, 1 if work.quick else 9)
    blobs = {}

    def blob(content, kind):
        value = hashlib.sha256(content).hexdigest()
        blobs[value] = content
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{value}", "size": len(content)}

    layer_id = hashlib.sha256(plain).hexdigest()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(text(config(work, layer_id)), "config.v1+json"),
        "layers": [blob(layer, "layer.v1.tar+gzip")],
    }
    named = blob(text(manifest), "manifest.v1+json")
    named["platform"] = {"architecture": PLATFORMS[work.image_program.arch], "os": "linux"}
    named["annotations"] = {
        "org.opencontainers.image.ref.name": work.version,
        "io.containerd.image.name": f"docker.io/library/lameduck:{work.version}",
    }
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [named]}
    parts = [("blobs", None, 0o755, 0), ("blobs/sha256", None, 0o755, 0)]
    parts += [(f"blobs/sha256/{name}", content, 0o644, 0) for name, content in sorted(blobs.items())]
    parts += [("index.json", text(index), 0o644, 0)]
    parts += [("oci-layout", text({"imageLayoutVersion": "1.0.0"}), 0o644, 0)]
    to = work.out / f"lameduck-{work.version}-{work.image_program.arch}.oci.tar"
    to.write_bytes(archive.pack(parts, work.epoch))
    return to


def text(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
