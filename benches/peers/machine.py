"""What the figures were measured on: never a host's name."""

import os
import platform
import re
import subprocess

import others


def first_line(command, pattern=r".*\d.*"):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError:
        return "not installed"
    lines = (done.stdout + done.stderr).splitlines()
    return next((line.strip() for line in lines if re.match(pattern, line)), "unknown")


def describe(binary, names):
    """Processor, kernel and versions."""
    model = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    facts = {
        "processor": f"{model}, {len(os.sched_getaffinity(0))} cores, {platform.machine()}",
        "kernel": re.match(r"[\d.]+", platform.release()).group(),
        "lameduck": first_line([binary, "--version"]),
        "rustc": first_line(["rustc", "--version"]),
        "valgrind": first_line(["valgrind", "--version"]),
    }
    if "nginx" in names:
        facts["nginx"] = first_line([others.Nginx.find(), "-v"]).removeprefix("nginx version: ")
    if "haproxy" in names:
        facts["haproxy"] = first_line([others.Haproxy.find(), "-v"]).partition(" - http")[0]
    if "envoy" in names:
        version = first_line([others.Envoy.find(), "--version"], r".*version: .*")
        facts["envoy"] = version.rpartition("version: ")[2].split("/")[1]
    if "caddy" in names:
        facts["caddy"] = first_line([others.Caddy.find(), "version"]).split()[0]
    return facts
