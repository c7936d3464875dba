"""What all measurements share: the backend, the load, and which core does what."""

import json
import os
import re
import resource
import shutil
import subprocess
from pathlib import Path

import front_door
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
        self.behind = None
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
        if self.behind:
            self.behind.stop()
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
        if setup.front:
            front_door.put_files(self.scratch)
        backend = self.http2_backend() if setup.http2_backend else self.backend_address
        return kind(self.scratch / f"{name}-{self.started}", backend, binary, self, setup)

    def http2_backend(self):
        """An address where the backend is asked in HTTP/2: another lameduck stands before it, and isn't measured."""
        if not self.behind:
            setup = proxies.Setup(http2=True)
            self.behind = others.ALL["lameduck"](self.scratch / "behind", self.backend_address, self.binary, self, setup)
            self.behind.start(self.aside)
        return self.behind.address

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

    def load_http2(self, proxy, connections, requests, streams=1):
        """Sends them all with h2load, so many at a time on each connection; the figures."""
        if not shutil.which("h2load"):
            raise proxies.Lacking("needs h2load (nghttp2-client)")
        scheme = "https" if proxy.setup.tls else "http"
        done = subprocess.run([*self.aside, "h2load", "-n", str(requests), "-c", str(connections), "-m", str(streams),
                               "-t", "1", f"--connect-to={proxy.address}",
                               f"{scheme}://bench.example:{proxy.port_of()}/hello"], capture_output=True, text=True)
        return {"seconds": h2load_seconds(proxy.name, requests, done.stdout, done.stderr)}

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


def h2load_seconds(name, requests, text, error=""):
    """How long they took, from what h2load says. Any request without its 200 is an error."""
    if "Application protocol: http/1.1" in text:
        raise proxies.Lacking("not in this version: HTTP/2")
    good = re.search(r"status codes: (\d+) 2xx", text)
    took = re.search(r"finished in ([\d.]+)(us|ms|s)", text)
    if not good or int(good.group(1)) != requests or not took or "Application protocol: h2" not in text:
        raise proxies.Failed(f"{name} did not answer every h2 request: {text[-300:]} {error[-300:]}")
    return float(took.group(1)) * {"us": 1e-6, "ms": 1e-3, "s": 1}[took.group(2)]
