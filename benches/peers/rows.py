"""The rows of the table: what each puts through a proxy, and what it reads off.

A row's `measure(lab, proxy, options)` does one run with a proxy that is started and warm, and returns figures by name.
"""

import json
import resource
import subprocess
import time
from dataclasses import dataclass, field
from typing import Callable

import proxies
import scale
from proxies import Setup

MIB = 1 << 20


@dataclass(frozen=True)
class Figure:
    """One number of a row. `better` says which way is good: the ratio to lameduck is told accordingly."""

    title: str
    unit: str
    better: str = "less"
    digits: int = 1


@dataclass(frozen=True)
class Row:
    title: str
    measure: Callable
    figures: dict
    setup: Setup = Setup()
    # Whose row it isn't.
    without: tuple = ()
    # More rounds would say the same again.
    most_rounds: int = 99
    # What the warm-up sends; rows of cold connections have none.
    warm: dict = field(default_factory=dict)


def cpu_seconds(pid):
    """User and system time of the process so far, all its threads, to the nanosecond: its own CPU clock."""
    return time.clock_gettime((~pid) << 3 | 2)


def run(lab, proxy, connections, requests, **work):
    """One load; its figures, and the CPU time that it took the proxy."""
    with alone(proxy) as spent:
        figures = lab.load(proxy, connections, requests, **work)
    return figures | {"cpu": spent()}


class alone:
    """CPU time spent inside a `with`."""

    def __init__(self, proxy):
        self.pids = processes(proxy.process.pid)

    def __enter__(self):
        self.before = sum(map(cpu_seconds, self.pids))
        return lambda: self.after - self.before

    def __exit__(self, *_):
        self.after = sum(map(cpu_seconds, self.pids))


def processes(pid):
    """A proxy's process and its children."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        return [pid, *(child for one in children.read().split() for child in processes(int(one)))]


def requests(count, connections=16, **work):
    """CPU time for each request, and how many a second."""
    def measure(lab, proxy, options):
        number = options.scaled(count)
        got = run(lab, proxy, connections, number, **work)
        return {"cpu_us": 1e6 * got["cpu"] / number, "per_second": number / got["seconds"],
                "busy": 100 * got["cpu"] / got["seconds"]}
    return measure


def bodies(count, connections=8, **work):
    """Bytes for each second of CPU time, and a second."""
    def measure(lab, proxy, options):
        got = run(lab, proxy, connections, options.scaled(count), **work)
        return {"per_cpu": got["bytes"] / MIB / got["cpu"], "per_second": got["bytes"] / MIB / got["seconds"]}
    return measure


def latency(lab, proxy, options):
    """Percentiles at a rate that is the same for all."""
    number = options.rate * options.seconds
    got = run(lab, proxy, 64, number, rate=options.rate)
    return {name: got[f"{name}_us"] for name in ("p50", "p99", "p999", "max")} | {"cpu_us": 1e6 * got["cpu"] / number}


def handshakes(count, **work):
    """A connection, a handshake, one request."""
    def measure(lab, proxy, options):
        number = options.scaled(count)
        got = run(lab, proxy, 8, number, fresh=1, **work)
        return {"cpu_us": 1e6 * got["cpu"] / number, "per_second": number / got["seconds"]}
    return measure


def storm(lab, proxy, options):
    """Latency at a fixed rate, while again and again a thousand clients connect at once. They yield to the load that
    measures."""
    command = ["nice", "-n", "19", *lab.load_command(proxy, 1_000, 1_000, fresh=1)]
    good = lab.load_command(proxy, 32, 1_000 * options.seconds, rate=1_000)
    good = subprocess.Popen(good, stdout=subprocess.PIPE, text=True)
    took = []
    try:
        time.sleep(0.3)
        while good.poll() is None:
            began = time.monotonic()
            storm = subprocess.run(command, capture_output=True, text=True, timeout=60)
            took.append(time.monotonic() - began)
            if storm.returncode:
                raise proxies.Failed(f"{proxy.name} did not serve every new client: {storm.stderr.strip()}")
        got = json.loads(good.communicate()[0])
    finally:
        good.kill()
        good.wait()
    return {name: got[f"{name}_us"] for name in ("p50", "p99", "max")} | {"per_second": 1_000 * len(took) / sum(took)}


def h2(lab, proxy, options):
    """h2load: four connections with a hundred streams each."""
    number = options.scaled(40_000)
    with alone(proxy) as spent:
        got = lab.load_http2(proxy, 4, number, streams=100)
    return {"cpu_us": 1e6 * spent() / number, "per_second": number / got["seconds"]}


def idle(lab, proxy, options):
    """Memory with many idle clients, after one request each; and what requests over that many connections cost."""
    room, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = min(options.clients, room - 500)
    empty = scale.settled(proxy.process.pid)
    with scale.Clients(proxy, clients):
        full = scale.settled(proxy.process.pid)
    return {"kib": (full - empty) / clients / 1024, "mib": full / MIB}


def many(lab, proxy, options):
    """Requests over thousands of open connections, sixteen at a time."""
    number = options.scaled(40_000)
    got = run(lab, proxy, options.clients, max(number, 2 * options.clients), threads=16)
    number = got["requests"]
    return {"cpu_us": 1e6 * got["cpu"] / number, "per_second": number / got["seconds"]}


def active(lab, proxy, options):
    """Memory with many requests in flight, all of them waiting for the backend."""
    number = max(options.scaled(1000), 100)
    empty = scale.resident(proxy.process.pid)
    command = lab.load_command(proxy, number, number, work="slow", size=4000, threads=8, burst=1)
    load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(2.5)
        full = scale.resident(proxy.process.pid)
        out = load.communicate(timeout=60)[0]
    finally:
        load.kill()
        load.wait()
    if load.returncode or json.loads(out)["seconds"] < 3:
        raise proxies.Failed(f"{proxy.name} did not hold {number} requests in flight")
    return {"kib": (full - empty) / number / 1024}


CPU = Figure("CPU", "µs")
RATE = Figure("a second", "/s", "more", 0)
BUSY = Figure("of a core", "%", "", 0)
REQUESTS = {"cpu_us": CPU, "per_second": RATE}
LARGE = Setup(bodies=True)
BODIES = {"per_cpu": Figure("a CPU second", "MiB", "more", 0), "per_second": Figure("a second", "MiB/s", "more", 0)}
KIB = Figure("each", "KiB")

ROWS = {
    "get": Row("small GET, keep-alive, 16 connections", requests(40_000), REQUESTS | {"busy": BUSY}),
    "latency": Row("latency at a fixed rate, 64 connections", latency,
                   {name: Figure(title, "µs", digits=0) for name, title in
                    (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"), ("max", "longest"))} | {"cpu_us": CPU}),
    "post": Row("POST of 16 KiB", requests(20_000, work="post", size=16384), REQUESTS),
    "download": Row("1 MiB to the client", bodies(1_500, work="download", size=MIB), BODIES, LARGE),
    "stream-down": Row("16 MiB in chunks to the client", bodies(100, work="stream-down", size=16 * MIB), BODIES, LARGE),
    "gzip": Row("64 KiB of JSON, compressed with gzip at level 4", requests(3_000, work="json", size=65536), REQUESTS,
                Setup(gzip=True), without=("envoy", "pingora")),
    "upload": Row("1 MiB to the app", bodies(1_500, work="upload", size=MIB), BODIES, LARGE),
    "stream-up": Row("16 MiB in chunks to the app", bodies(100, work="stream-up", size=16 * MIB), BODIES, LARGE),
    "websocket": Row("WebSocket messages there and back, 16 connections", requests(60_000, work="message"), REQUESTS),
    "backends": Row("small GET, 1,000 probed backends", requests(30_000), REQUESTS, Setup(backends=1000)),
    "connections": Row("small GET over 10,000 connections, 16 at a time", many, REQUESTS, most_rounds=5),
    "idle": Row("10,000 idle connections", idle, {"kib": KIB, "mib": Figure("in all", "MiB")}, most_rounds=2),
    "active": Row("1,000 requests in flight", active, {"kib": KIB}, most_rounds=3),
    "tls": Row("small GET over TLS 1.3, keep-alive", requests(30_000), REQUESTS, Setup(tls=True)),
    "tls-full": Row("TLS connection, full handshake, one GET", handshakes(2_000), REQUESTS, Setup(tls=True)),
    "tls-resumed": Row("TLS connection, resumed, one GET", handshakes(3_000, resume=1), REQUESTS, Setup(tls=True)),
    "tls-storm": Row("1,000 requests a second over TLS, while a thousand clients connect at once, again and again", storm,
                     {name: Figure(title, "µs", digits=0) for name, title in
                      (("p50", "p50"), ("p99", "p99"), ("max", "longest"))}
                     | {"per_second": Figure("handshakes a second", "/s", "more", 0)}, Setup(tls=True)),
    "h2": Row("small GET over h2 and TLS, 4 × 100 streams", h2, REQUESTS, Setup(tls=True)),
    # With two cores in all, the load is on them too: then only the CPU time says something. What two threads could do is
    # twice what one does, times the CPU time of `get`, divided by this one.
    "threads": Row("small GET, two threads, nothing pinned", requests(80_000, 32), REQUESTS | {"busy": BUSY},
                   Setup(threads=2), without=("pingora",)),
}
# Enough to see that everything works.
QUICK = ("get", "latency", "post", "download", "websocket", "tls", "h2", "active")
