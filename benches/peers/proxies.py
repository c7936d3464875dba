"""The measured proxies: how each is configured, started, found ready, and stopped. Here lameduck; `others` has the rest.

All of them do the same work: one listener, backends that are kept connected and probed each second (nginx cannot),
X-Forwarded-For, -Proto, -Host and X-Request-Id set, one access-log line a request, metrics on, one thread.
"""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


class Failed(Exception):
    """Something didn't start, or stopped."""


class Lacking(Exception):
    """This proxy, or this version of it, can't do what is measured."""


@dataclass(frozen=True)
class Setup:
    """What a measurement asks of a proxy besides the usual."""

    tls: bool = False
    threads: int = 1
    # Number of backends: one process, as many addresses of the loopback network.
    backends: int = 1
    # Large bodies go through: whoever has a buffer to set gets what suits them best.
    bodies: bool = False
    # JSON is compressed with gzip, at level 4.
    gzip: bool = False
    # HTTP/2 without TLS is spoken by the clients, and to the backend. lameduck's alone.
    http2: bool = False
    http2_backend: bool = False
    # Tables behind the pool's, such as routes. lameduck's alone.
    routes: str = ""
    # Tables before the pool's. lameduck's alone.
    tables: str = ""
    # One line a request. lameduck's alone can do without.
    access_log: bool = True
    # A feature of a front door, in each proxy's words: `front_door.Front`.
    front: object = None
    # Addresses of these apps, in the place of the lab's.
    apps: tuple = ()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what, ready, process, seconds=60):
    """Polls `ready` until it is true; it may raise OSError until then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Failed(f"{what} ended at once, with code {process.returncode}")
        try:
            answer = ready()
            if answer:
                return answer
        except OSError:
            pass
        time.sleep(0.05)
    raise Failed(f"{what} was not ready within {seconds} s")


def ask(connection, path):
    """GET over a connected socket: status and body."""
    with connection:
        connection.settimeout(10)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def tcp(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def addresses(backend, count):
    """So many addresses of one backend that listens on all of them."""
    if count == 1:
        return [backend]
    port = backend.rpartition(":")[2]
    return [f"127.0.{1 + number // 250}.{1 + number % 250}:{port}" for number in range(count)]


def trusting():
    """A TLS client that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Proxy:
    """One proxy in one directory. `wrapper` is what it runs under, such as valgrind or taskset."""

    name = ""
    # What the table says of it.
    note = ""

    def __init__(self, directory, backend, binary, lab, setup=Setup()):
        self.dir = Path(directory)
        self.setup = setup
        self.backends = list(setup.apps) or addresses(backend, setup.backends)
        self.binary = binary
        self.lab = lab
        self.process = None
        self.address = None
        self.port = 0

    def words(self, field):
        """This proxy's words for the setup's feature of a front door."""
        return self.setup.front.of(field, self) if self.setup.front else ""

    @classmethod
    def find(cls):
        return shutil.which(cls.name) or shutil.which(cls.name, path="/usr/sbin:/usr/local/sbin")

    def start(self, wrapper=()):
        self.dir.mkdir(parents=True, exist_ok=True)
        self.configure()
        with open(self.dir / "output", "ab") as output:
            self.process = subprocess.Popen([*wrapper, *self.command()], stdout=output, stderr=output,
                                            env={**os.environ, "LAMEDUCK_LOG": "warn"}, start_new_session=True)
        try:
            wait_until(self.name, self.ready, self.process)
        except Failed as failure:
            self.stop()
            said = (self.dir / "output").read_text(errors="replace").strip().splitlines()
            raise Failed("\n  ".join([str(failure), *said[-5:]])) from None
        return self

    def ready(self):
        connection = tcp(self.port)
        if self.setup.tls:
            connection = self.lab.trusting.wrap_socket(connection, server_hostname="bench.example")
        return ask(connection, "/hello")[0] == 200

    def port_of(self):
        return self.address.rpartition(":")[2]

    def listen(self):
        """Finds a port; what to listen on."""
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        return self.address

    def stop(self):
        """Stops it in good order, for callgrind writes its profile at the end."""
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                raise Failed(f"{self.name} did not stop") from None

    stop_signal = signal.SIGTERM

    def lines(self):
        """Access-log lines so far, to prove that logging was on; None where it goes elsewhere."""
        log = self.dir / "access.log"
        return log.read_bytes().count(b"\n") if log.exists() else None


class Lameduck(Proxy):
    name = "lameduck"

    def configure(self):
        tls = f'tls = {{ cert = "{self.lab.certificate}", key = "{self.lab.key}" }}' if self.setup.tls else ""
        http2 = "http2 = true" if self.setup.http2 else ""
        upstream = "[pool.upstream]\nhttp2 = true" if self.setup.http2_backend else ""
        compression = '[compression]\nalgorithms = ["gzip"]\ngzip_level = 4' if self.setup.gzip else ""
        backends = "".join(f'[[pool.backend]]\naddress = "{address}"\n' for address in self.backends)
        log = f"{self.dir}/access.log" if self.setup.access_log else "off"
        config = self.dir / "lameduck.toml"
        config.write_text(f"""
[server]
threads = {self.setup.threads}
lame_duck = "0s"
idle_timeout = "600s"
max_connections = 20000
[admin]
socket = "{self.dir}/admin.sock"
http = ""
[access_log]
path = "{log}"
[[listener]]
address = "127.0.0.1:0"
{tls}
{http2}
{compression}
{self.setup.tables}
[[pool]]
name = "app"
{self.words("lameduck_pool")}
{backends}
{upstream}
{self.setup.routes}{self.words('lameduck')}""")
        done = subprocess.run([self.binary, "check", "-c", str(config)], capture_output=True, text=True)
        if done.returncode:
            error = (done.stderr + done.stdout).strip().splitlines() or [""]
            raise Lacking(f"not in this version: {error[0]}")

    def command(self):
        return [self.binary, "run", "-c", f"{self.dir}/lameduck.toml"]

    def admin(self, path):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{self.dir}/admin.sock")
        return ask(connection, path)

    def ready(self):
        if self.admin("/-/ready?pool=app")[0] != 200:
            return False
        body = self.admin("/v1/listeners")[1]
        self.address = json.loads(body[body.index(b"["):body.rindex(b"]") + 1])[0]["address"]
        if self.setup.backends == 1:
            return True
        return self.admin("/metrics")[1].count(b'state="ready"} 1\n') >= self.setup.backends
