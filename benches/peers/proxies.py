"""The measured proxies: how each is configured, started, found ready, and stopped.

All of them do the same work: one listener, one backend that is kept connected and probed each second (nginx cannot),
X-Forwarded-For, -Proto, -Host and X-Request-Id set, one access-log line a request, one thread.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path


class Failed(Exception):
    """Something didn't start, or stopped."""


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


class Proxy:
    """One proxy in one directory. `wrapper` is what it runs under, such as valgrind or taskset."""

    name = ""

    def __init__(self, directory, backend, binary, lab):
        self.dir = Path(directory)
        self.backend = backend
        self.binary = binary
        self.lab = lab
        self.process = None
        self.address = None

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
            wait_until(f"{self.name} (see {self.dir}/output)", self.ready, self.process)
        except Failed:
            self.stop()
            raise
        return self

    def ready(self):
        return ask(tcp(self.port), "/hello")[0] == 200

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
        (self.dir / "lameduck.toml").write_text(f"""
[server]
threads = 1
lame_duck = "0s"
[admin]
socket = "{self.dir}/admin.sock"
http = ""
[access_log]
path = "{self.dir}/access.log"
[[listener]]
address = "127.0.0.1:0"
[[pool]]
name = "app"
[[pool.backend]]
address = "{self.backend}"
""")

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
        return True


class Nginx(Proxy):
    name = "nginx"
    log_options = ""

    def configure(self):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        temp = "".join(f"{kind}_temp_path {self.dir}/{kind};" for kind in
                       ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (self.dir / "nginx.conf").write_text(f"""
daemon off; master_process off; worker_processes 1; pid {self.dir}/pid; error_log {self.dir}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log {self.dir}/access.log combined{self.log_options};
  {temp}
  keepalive_requests 100000000;
  upstream app {{ server {self.backend}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen {self.address};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Request-Id $request_id;
    }}
  }}
}}
""")

    def command(self):
        return [self.binary, "-p", str(self.dir), "-e", f"{self.dir}/error.log", "-c", f"{self.dir}/nginx.conf"]


class NginxBuffered(Nginx):
    name = "nginx-buffered"
    log_options = " buffer=64k flush=1s"

    @classmethod
    def find(cls):
        return Nginx.find()


class Haproxy(Proxy):
    name = "haproxy"

    def configure(self):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        sink = self.dir / "syslog.sock"
        sink.unlink(missing_ok=True)
        self.sink = subprocess.Popen([*self.lab.aside, self.lab.peer, "sink", str(sink)])
        wait_until("the syslog socket", sink.exists, self.sink)
        (self.dir / "haproxy.cfg").write_text(f"""
global
  nbthread 1
  maxconn 512
  log {sink} local0 info
defaults
  mode http
  log global
  option httplog
  option forwardfor
  timeout connect 1s
  timeout client 60s
  timeout server 60s
frontend front
  bind {self.address}
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  default_backend app
backend app
  http-reuse always
  option httpchk GET /health
  server app-1 {self.backend} check inter 1s pool-purge-delay 60s
""")

    def command(self):
        return [self.binary, "-db", "-f", f"{self.dir}/haproxy.cfg"]

    def stop(self):
        try:
            super().stop()
        finally:
            self.sink.kill()
            self.sink.wait()


ALL = {proxy.name: proxy for proxy in (Lameduck, Nginx, NginxBuffered, Haproxy)}
