"""`benches/run latency`: a pool in which one of five instances is slow, failing or stuck, and what clients have of it.

An open loop: requests are sent by a schedule, each latency is counted from the instant at which its request was due, and
neither a late answer nor an error holds the next one up. Health checks see nothing wrong: `/health` is answered well.
"""

import json
import subprocess
from dataclasses import dataclass

import proxies
from front_door import Front
from proxies import Setup

# What a good instance takes for an answer, in ms.
USUAL = 5

# The fifth of them.
FAULTS = {
    "slow": ("one takes ten times as long", [f"takes={10 * USUAL}"]),
    "failing": ("one fails 5 % with 500", [f"takes={USUAL}", "fails=5"]),
    "hanging": ("one never answers", ["hangs=1"]),
}

LAMEDUCK = '[pool.upstream]\nread_timeout = "1s"\n'
# Nobody tries again what took too long, and all give an answer one second.
FRONTS = {
    "lameduck, least_requests": ("lameduck", Front(lameduck_pool='balance = "least_requests"\n', lameduck=LAMEDUCK)),
    "lameduck, peak_ewma": ("lameduck", Front(lameduck_pool='balance = "peak_ewma"\n', lameduck=LAMEDUCK)),
    "lameduck, least_requests, outlier": (
        "lameduck", Front(lameduck_pool='balance = "least_requests"\n', lameduck=LAMEDUCK + "[pool.outlier]\n")),
    "lameduck, peak_ewma, outlier": (
        "lameduck", Front(lameduck_pool='balance = "peak_ewma"\n', lameduck=LAMEDUCK + "[pool.outlier]\n")),
    "haproxy, leastconn, observe layer7": ("haproxy", Front(
        haproxy_backend="  balance leastconn\n  timeout server 1s\n",
        haproxy_each="observe layer7 error-limit 5 on-error mark-down")),
    "envoy, LEAST_REQUEST, outliers": ("envoy", Front(
        envoy_balance="LEAST_REQUEST", envoy_timeout="1s",
        envoy_cluster="outlier_detection: { consecutive_5xx: 5, interval: 1s, base_ejection_time: 30s, "
                      "max_ejection_percent: 30, success_rate_minimum_hosts: 3, success_rate_request_volume: 50 }")),
    "nginx, least_conn, max_fails": ("nginx", Front(
        nginx_upstream="zone app 64k; least_conn;", nginx_each="max_fails=5 fail_timeout=10s",
        nginx_location="proxy_read_timeout 1s; proxy_next_upstream_tries 1;")),
}


@dataclass
class Pace:
    rate: int = 1_000
    # Before it is measured; what fails in it is told apart.
    first: int = 5
    seconds: int = 10


class Apps:
    """Four good instances and one that is not."""

    def __init__(self, lab, manner):
        good = [f"takes={USUAL}"]
        self.lab, self.manners, self.processes = lab, [good, good, good, good, manner], []

    def __enter__(self):
        for manner in self.manners:
            self.processes.append(subprocess.Popen([*self.lab.aside, self.lab.peer, "backend", "127.0.0.1:0", *manner],
                                                   stdout=subprocess.PIPE, text=True))
        return tuple(process.stdout.readline().strip() for process in self.processes)

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdout.close()


def load(lab, proxy, pace, seconds):
    """So many seconds of it. Failures are figures here."""
    command = lab.load_command(proxy, 600, pace.rate * seconds, rate=pace.rate, open=1)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise proxies.Failed(f"the load on {proxy.name} ended: {done.stderr.strip()}")
    return json.loads(done.stdout)


def once(lab, label, fault, pace):
    name, front = FRONTS[label]
    with Apps(lab, FAULTS[fault][1]) as apps:
        proxy = lab.proxy(name, Setup(front=front, apps=apps))
        proxy.start(lab.core)
        try:
            first = load(lab, proxy, pace, pace.first)
            got = load(lab, proxy, pace, pace.seconds)
        finally:
            proxy.stop()
    kept = {key: got[f"{key}_us"] for key in ("p50", "p99", "p999", "max")}
    return kept | {"failed": got["failed"], "requests": got["requests"], "failed_at_first": first["failed"]}


def measure(lab, names, faults, pace, say):
    """By fault and front: figures, or why there are none."""
    results = {}
    for fault in faults:
        say(f"{FAULTS[fault][0]}: {pace.rate:,} requests/s for {pace.seconds} s, behind {pace.first} s of the same")
        say(f"{'':36}{'p50':>10}{'p99':>10}{'p99.9':>10}{'longest':>10}   failed   of the first {pace.rate * pace.first:,}")
        mine = results[fault] = {}
        for label in (label for label, (name, _) in FRONTS.items() if name in names):
            try:
                got = mine[label] = once(lab, label, fault, pace)
            except (proxies.Lacking, proxies.Failed) as lacking:
                mine[label] = {"lacking": str(lacking)}
                say(f"  {label:34} skipped: {lacking}")
                continue
            times = "".join(f"{got[key] / 1e3:7.1f} ms" for key in ("p50", "p99", "p999", "max"))
            say(f"  {label:34}{times}{got['failed']:9,}{got['failed_at_first']:9,}")
        say()
    return results
