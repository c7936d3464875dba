"""The bill of materials in CycloneDX: each crate that is compiled into the binary, its licence, source digest and needs."""
import datetime
import functools
import hashlib
import json
import os
import subprocess
import tomllib
import uuid

import tree


@functools.cache
def metadata(arch):
    cargo = os.environ.get("CARGO", "cargo")
    target = f"{arch}-unknown-linux-gnu"
    # Without the network: what was built is on this machine.
    command = [cargo, "metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", target]
    said = subprocess.run(command, check=True, capture_output=True, cwd=tree.ROOT).stdout
    return json.loads(said)


def document(work):
    found = metadata(work.program.arch)
    packages = {package["id"]: package for package in found["packages"]}
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    lock = tomllib.loads((tree.ROOT / "Cargo.lock").read_text())
    sums = {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}
    root = found["resolve"]["root"]
    needs, queue = {}, [root]
    while queue:
        one = queue.pop()
        if one in needs:
            continue
        # Neither what only tests need nor what runs while others are compiled.
        kept = [d["pkg"] for d in nodes[one]["deps"] if any(k["kind"] is None for k in d["dep_kinds"])]
        needs[one] = sorted(set(kept))
        queue += kept

    def reference(one):
        package = packages[one]
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(one):
        package = packages[one]
        entry = {
            "type": "library",
            "bom-ref": reference(one),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(one),
        }
        if package["license"]:
            # Some crates still write MIT/Apache-2.0, which was SPDX once.
            entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        checksum = sums.get((package["name"], package["version"]))
        if checksum:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return entry

    order = sorted(needs, key=reference)
    main = component(root) | {"type": "application", "version": work.version}
    time = datetime.datetime.fromtimestamp(work.epoch, datetime.timezone.utc)
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": main},
        "components": [component(one) for one in order if one != root],
        "dependencies": [{"ref": reference(one), "dependsOn": [reference(d) for d in needs[one]]} for one in order],
    }
    seed = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    content["serialNumber"] = f"urn:uuid:{uuid.UUID(bytes=seed[:16], version=4)}"
    return content


def write(work, to):
    to.write_text(json.dumps(document(work), indent=1, sort_keys=True) + "\n")


def build(work):
    to = work.out / f"lameduck-{work.version}.cdx.json"
    write(work, to)
    return to
