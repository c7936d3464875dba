"""How soon lameduck notices, under load: from a signal, a death, a 503 or a drain call to the last request that is routed
there, and from ready to the first.

Some of the pool's backends are `lameduck demo-app`, which write down each request that reaches them; the others are the
usual one, one process on as many addresses. When a gate closes or opens is taken from the event stream: read by us a
moment later, so these are upper bounds. A drain call is over with the first byte of its answer: the gate was closed, and
the snapshot out, before.
"""

import bisect
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import threading
import time

import proxies


class Victim:
    """A demo app that is stopped, killed, drained, and started again on its port."""

    def __init__(self, lab, number):
        self.lab, self.name, self.port = lab, f"victim-{number}", proxies.free_port()
        self.log = lab.scratch / f"{self.name}.journal"
        self.process = None
        # When requests came, and how far the journal has been read: it grows by thousands of lines a second, and
        # reading it again and again would take the time of those that are measured.
        self.times, self.read, self.rest = [], 0, b""

    def start(self):
        self.process = subprocess.Popen([*self.lab.aside, self.lab.binary, "demo-app", "--name", self.name, "--port",
                                         str(self.port), "--log", str(self.log)], stdout=subprocess.DEVNULL)
        return self

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def arrivals(self, since):
        """When requests came, in seconds of CLOCK_MONOTONIC, from some moment on. Earlier ones are forgotten."""
        if self.log.exists():
            with open(self.log, "rb") as journal:
                journal.seek(self.read)
                new = journal.read()
            self.read += len(new)
            *lines, self.rest = (self.rest + new).split(b"\n")
            events = map(json.loads, lines)
            self.times += [event["t"] / 1e9 for event in events if event["event"] == "arrival"]
        # Several threads write them: in order but for microseconds.
        self.times.sort()
        del self.times[:bisect.bisect_left(self.times, since)]
        return self.times

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()


class Admin(http.client.HTTPConnection):
    """The admin socket."""

    def __init__(self, path):
        super().__init__("lameduck", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self.path)

    def ask(self, method, path, body=None):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise proxies.Failed(f"{method} {path}: {answer.status} {data[:300]!r}")
        return json.loads(data) if data else None


def timed(path, target, body):
    """A call of the admin API on a connection of its own: when it was sent, and when the first byte of its answer came.
    Without the client's own work on either side."""
    data = json.dumps(body)
    request = (f"POST {target} HTTP/1.1\r\nHost: lameduck\r\nContent-Type: application/json\r\n"
               f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n{data}").encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(path)
        # Accepted by the time that counts: a client keeps its connection.
        time.sleep(0.02)
        began = time.monotonic()
        connection.sendall(request)
        answer = connection.recv(65536)
        answered = time.monotonic()
    if not answer.startswith(b"HTTP/1.1 20"):
        raise proxies.Failed(f"POST {target}: {answer[:300]!r}")
    return began, answered


class Events(threading.Thread):
    """The event stream, with the moment at which each event was read."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.admin = Admin(path)
        self.admin.request("GET", "/v1/events")
        self.stream = self.admin.getresponse()
        self.seen = []
        self.more = threading.Condition()
        self.start()

    def run(self):
        try:
            while line := self.stream.readline():
                if line.startswith(b"data:"):
                    now = time.monotonic()
                    event = json.loads(line[5:])
                    with self.more:
                        self.seen.append((now, event))
                        self.more.notify_all()
        except (OSError, ValueError, AttributeError):
            pass

    def first(self, since, wanted, what, seconds=40):
        """When an event came that `wanted` takes, from some moment on."""
        end = time.monotonic() + seconds
        with self.more:
            while True:
                hits = [at for at, event in self.seen if at >= since and wanted(event)]
                if hits:
                    return hits[0]
                if not self.more.wait(max(end - time.monotonic(), 0)):
                    raise proxies.Failed(f"{what}: no such event within {seconds} s")


class Trial:
    """One lameduck with its victims, under load."""

    def __init__(self, lab, backends, rate):
        self.victims = [Victim(lab, number).start() for number in range(3)]
        self.proxy = lab.proxy("lameduck", proxies.Setup(backends=max(backends - len(self.victims), 1)))
        self.proxy.backends += [victim.address for victim in self.victims]
        self.proxy.start(lab.core)
        self.admin = Admin(str(self.proxy.dir / "admin.sock"))
        names = {one["address"]: one["name"] for one in self.admin.ask("GET", "/v1/pools/app")["backends"]}
        for victim in self.victims:
            victim.backend = names[victim.address]
        self.events = Events(str(self.proxy.dir / "admin.sock"))
        for victim in self.victims:
            self.wait_ready(victim)
        # Killed at the end: more than can be sent.
        command = lab.load_command(self.proxy, 64, rate * 3600, work="any", rate=rate)
        self.load = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(2)
        self.began, self.lines_before = time.monotonic(), self.lines()

    def wait_ready(self, victim):
        end = time.monotonic() + 30
        while self.admin.ask("GET", f"/v1/pools/app/backends/{victim.backend}")["state"] != "ready":
            if time.monotonic() > end:
                raise proxies.Failed(f"{victim.name} did not become ready")
            time.sleep(0.02)

    def closed(self, victim, since):
        """When its gate was closed."""
        return self.events.first(
            since, lambda event: event.get("backend") == victim.backend and event.get("from") == "ready"
            and event.get("to") in ("draining", "drained", "down"), f"{victim.backend} closes")

    def opened(self, victim, since):
        return self.events.first(
            since, lambda event: event.get("backend") == victim.backend and event.get("to") == "ready",
            f"{victim.backend} is ready")

    def last(self, victim, since):
        """How long after that moment the last request came; 0 if none did."""
        return max((at - since for at in victim.arrivals(since)), default=0.0)

    def signalled(self, victim, number):
        """A signal; then the app is started again, if it ended. Closed after, last request after, first after ready."""
        began = time.monotonic()
        os.kill(victim.process.pid, number)
        closed = self.closed(victim, began)
        if number == signal.SIGUSR1:
            time.sleep(0.05)
            last = self.last(victim, began)
            os.kill(victim.process.pid, number)
        else:
            victim.process.wait(60)
            last = self.last(victim, began)
            victim.start()
        ready = self.opened(victim, closed)
        return {"closed": closed - began, "last": last, "first": self.first_after(victim, ready)}

    def drained(self, victim):
        """A drain call."""
        path = f"/v1/pools/app/backends/{victim.backend}"
        began, answered = timed(self.admin.path, f"{path}/drain", {"wait": False, "timeout": "10s"})
        closed = self.closed(victim, began)
        time.sleep(0.05)
        last = self.last(victim, began)
        self.admin.ask("POST", f"{path}/resume", {})
        ready = self.opened(victim, closed)
        return {"closed": min(closed, answered) - began, "last": last, "first": self.first_after(victim, ready)}

    def first_after(self, victim, ready):
        """From ready to the first request. It may be there before the event is read: 0."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            # A request that came between the gate's opening and our reading of the event counts as at once.
            arrivals = victim.arrivals(ready - 0.01)
            if arrivals:
                return max(arrivals[0] - ready, 0.0)
            time.sleep(0.01)
        raise proxies.Failed(f"{victim.name} is ready and gets no request")

    def lines(self):
        """Lines of the access log so far."""
        with open(self.proxy.dir / "access.log", "rb") as log:
            return sum(block.count(b"\n") for block in iter(lambda: log.read(1 << 20), b""))

    def rate(self):
        """Requests a second that were answered. Well below what was asked for, the machine has no room for them."""
        seconds = time.monotonic() - self.began
        return round((self.lines() - self.lines_before) / seconds)

    def failures(self):
        """Requests that were not answered 200, by the access log."""
        if self.load.poll() is not None:
            raise proxies.Failed("the load ended: one of its requests was not answered 200")
        time.sleep(0.5)
        with open(self.proxy.dir / "access.log", encoding="utf-8") as log:
            return sum('"status":200,' not in line for line in log)

    def end(self):
        for process in (getattr(self, "load", None),):
            if process:
                process.kill()
                process.wait()
        self.proxy.stop()
        for victim in self.victims:
            victim.stop()


KINDS = {
    "drain call": Trial.drained,
    "SIGTERM": lambda trial, victim: trial.signalled(victim, signal.SIGTERM),
    "SIGKILL": lambda trial, victim: trial.signalled(victim, signal.SIGKILL),
    "503 (probed each second)": lambda trial, victim: trial.signalled(victim, signal.SIGUSR1),
}


def measure(lab, backends, rate, trials):
    """By kind: milliseconds of all trials, sorted. And how many requests failed."""
    trial = Trial(lab, backends, rate)
    try:
        figures = {}
        for kind, act in KINDS.items():
            rounds = [act(trial, trial.victims[number % len(trial.victims)]) for number in range(trials)]
            figures[kind] = {name: sorted(round(1e3 * one[name], 3) for one in rounds) for name in rounds[0]}
        return {"backends": backends, "rate": rate, "answered_per_second": trial.rate(), "failed": trial.failures(),
                "kinds": figures}
    finally:
        trial.end()


def lines(result):
    yield (f"{result['backends']:,} backends, {result['rate']:,} requests/s ({result['answered_per_second']:,} were "
           f"answered): milliseconds, median (worst); {result['failed']} requests failed")
    yield f"  {'':26}{'gate closed':>18}{'last request':>18}{'ready → first':>18}"
    for kind, figures in result["kinds"].items():
        cells = "".join(f"{f'{statistics.median(each):.2f} ({each[-1]:.2f})':>18}" for each in figures.values())
        yield f"  {kind:26}{cells}"
