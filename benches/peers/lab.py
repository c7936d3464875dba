"""What all measurements share: the backend, the load, and which core does what."""

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import others
import proxies


class Lab:
    """A running backend, and proxies in front of it on demand."""

    def __init__(self, root, out, scratch, binary):
        self.out, self.scratch, self.binary = out, scratch, binary
        self.peer = out / "peer"
        subprocess.run(["rustc", "--edition", "2024", "-O", "-o", self.peer,
                        root / "benches/peers/peer/main.rs"], check=True)
        self.started = 0
        self.trusting = proxies.trusting()
        self.certificate, self.key, self.both = (scratch / name for name in ("cert.pem", "key.pem", "both.pem"))
        # Thousands of connections, on both sides of a proxy.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, 65536), max(hard, 65536)))
        except (ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1 and shutil.which("taskset"):
            self.core = ("taskset", "-c", str(cores[0]))
            self.aside = ("taskset", "-c", ",".join(map(str, cores[1:])))
            self.pinning = "the proxy alone on one core, load and backend on the others"
        else:
            self.core = self.aside = ()
            self.pinning = "nothing pinned (one core, or no taskset): figures include the others' cache misses"

    def __enter__(self):
        self.backend = subprocess.Popen([*self.aside, self.peer, "backend", "0.0.0.0:0"],
                                        stdout=subprocess.PIPE, text=True)
        self.backend_address = "127.0.0.1:" + self.backend.stdout.readline().strip().rpartition(":")[2]
        return self

    def __exit__(self, *_):
        self.backend.kill()
        self.backend.wait()
        self.backend.stdout.close()

    def proxy(self, name, setup=proxies.Setup()):
        """A proxy that isn't started yet, in a directory of its own."""
        kind = others.ALL[name]
        self.started += 1
        binary = self.binary if name == "lameduck" else kind.find()
        if setup.tls:
            self.make_certificate()
        return kind(self.scratch / f"{name}-{self.started}", self.backend_address, binary, self, setup)

    def make_certificate(self):
        """A key of the usual kind (ECDSA P-256), signed by itself."""
        if self.both.exists():
            return
        if not shutil.which("openssl"):
            raise proxies.Lacking("needs openssl, for a certificate")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-days", "30", "-subj", "/CN=bench.example", "-addext", "subjectAltName=DNS:bench.example",
                        "-keyout", self.key, "-out", self.certificate], check=True, capture_output=True)
        self.both.write_bytes(self.certificate.read_bytes() + self.key.read_bytes())

    def load(self, proxy, connections, requests, **options):
        """Sends them all; the figures. Any request without its whole answer is an error."""
        done = subprocess.run(self.load_command(proxy, connections, requests, **options), capture_output=True, text=True)
        if done.returncode:
            raise proxies.Failed(f"{proxy.name} did not answer every request: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def load_command(self, proxy, connections, requests, **options):
        """What sends them: over TLS if that is the setup."""
        peer = self.peer
        if proxy.setup.tls:
            peer = Path(others.built()) / "peer-tls"
            if not peer.is_file():
                raise proxies.Lacking("needs benches/peers/crate built")
        options = [f"{name}={value}" for name, value in
                   {"connections": connections, "requests": requests, **options}.items()]
        verb = [] if proxy.setup.tls else ["load"]
        return [*self.aside, str(peer), *verb, proxy.address, *options]
