"""What all measurements share: the backend, the load, and which core does what."""

import json
import os
import shutil
import subprocess

import proxies


class Lab:
    """A running backend, and proxies in front of it on demand."""

    def __init__(self, root, out, scratch, binary):
        self.out, self.scratch, self.binary = out, scratch, binary
        self.peer = out / "peer"
        subprocess.run(["rustc", "--edition", "2024", "-O", "-o", self.peer,
                        root / "benches/peers/peer/main.rs"], check=True)
        self.started = 0
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1 and shutil.which("taskset"):
            self.core = ("taskset", "-c", str(cores[0]))
            self.aside = ("taskset", "-c", ",".join(map(str, cores[1:])))
            self.pinning = "the proxy alone on one core, load and backend on the others"
        else:
            self.core = self.aside = ()
            self.pinning = "nothing pinned (one core, or no taskset): figures include the others' cache misses"

    def __enter__(self):
        self.backend = subprocess.Popen([*self.aside, self.peer, "backend", "127.0.0.1:0"],
                                        stdout=subprocess.PIPE, text=True)
        self.backend_address = self.backend.stdout.readline().strip()
        return self

    def __exit__(self, *_):
        self.backend.kill()
        self.backend.wait()
        self.backend.stdout.close()

    def proxy(self, name):
        """A proxy that isn't started yet, in a directory of its own."""
        kind = proxies.ALL[name]
        self.started += 1
        binary = self.binary if name == "lameduck" else kind.find()
        return kind(self.scratch / f"{name}-{self.started}", self.backend_address, binary, self)

    def load(self, proxy, connections, requests, **options):
        """Sends them all; the figures. Any request without its whole answer is an error."""
        options = [f"{name}={value}" for name, value in
                   {"connections": connections, "requests": requests, **options}.items()]
        done = subprocess.run([*self.aside, self.peer, "load", proxy.address, *options],
                              stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise proxies.Failed(f"{proxy.name} did not answer every request")
        return json.loads(done.stdout)
