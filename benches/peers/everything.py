"""What it costs to see everything: traces at 1 % to a collector that takes them, metrics scraped each second, the access
log, against nothing of it."""

import collections
import contextlib
import random
import statistics
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import measures
import proxies

# How often metrics are scraped, in seconds: fifteen times as often as Prometheus does by default.
SCRAPED = 1.0


class Collector(BaseHTTPRequestHandler):
    """Takes what it is sent, and counts its bytes."""

    protocol_version = "HTTP/1.1"
    taken = 0

    def do_POST(self):
        type(self).taken += len(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def collector():
    """A collector, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


@contextlib.contextmanager
def scraped(proxy):
    """A proxy whose metrics somebody reads."""
    over = threading.Event()

    def scrape():
        while not over.wait(SCRAPED):
            with contextlib.suppress(OSError):
                proxy.admin("/metrics")

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def setups(address):
    """From nothing to everything."""
    traced = f'[tracing]\nendpoint = "http://{address}"\nsample = '
    return {
        "nothing": proxies.Setup(access_log=False),
        "access log": proxies.Setup(),
        "log and traces, none sampled": proxies.Setup(tables=f"{traced}0.0\n"),
        "everything, traces at 1 %": proxies.Setup(tables=f"{traced}0.01\n"),
        "everything, traces at 100 %": proxies.Setup(tables=f"{traced}1.0\n"),
    }


def instructions(lab, connections, requests):
    """User instructions per request of all threads, for each of the setups."""
    with collector() as address:
        return {name: measures.instructions(lab, "lameduck", connections, requests,
                                            label="everything-" + "".join(c for c in name if c.isalnum()), setup=setup)
                for name, setup in setups(address).items()}


def cpu(lab, options):
    """CPU time per request with nothing and with everything: both run all the time, the load goes from one to the other.

    A pair of rounds is short, so that whatever else the machine does meets both of them, and each pair's ratio is one
    figure of many. The clocks are read between pairs, not between rounds: what a log's writer or an exporter does a
    moment after the last request is counted with the requests that it is for.
    """
    running, spent = {}, {}
    with collector() as address, contextlib.ExitStack() as over:
        for name in ("nothing", "everything, traces at 1 %"):
            proxy = lab.proxy("lameduck", setups(address)[name]).start(lab.core)
            over.callback(proxy.stop)
            lab.load(proxy, options.cpu_connections, options.pair_requests)
            running[name] = proxy
        off, on = running.values()
        over.enter_context(scraped(on))
        clocks = {name: measures.cpu_seconds(proxy.process.pid) for name, proxy in running.items()}
        threads = {name: thread_seconds(proxy.process.pid) for name, proxy in running.items()}
        for number in range(options.pairs):
            # Whoever comes first has the same chance of a bad moment as the other.
            for proxy in (off, on) if number % 2 else (on, off):
                lab.load(proxy, options.cpu_connections, options.pair_requests)
            for name, proxy in running.items():
                now = measures.cpu_seconds(proxy.process.pid)
                spent.setdefault(name, []).append((now - clocks[name]) * 1e6 / options.pair_requests)
                clocks[name] = now
        requests = options.pairs * options.pair_requests
        threads = {name: {thread: round((seconds - threads[name].get(thread, 0)) * 1e6 / requests, 3)
                          for thread, seconds in thread_seconds(proxy.process.pid).items()}
                   for name, proxy in running.items()}
    ratios = [after / before for before, after in zip(*spent.values())]
    return {"cpu_us": {name: round(statistics.median(figures), 2) for name, figures in spent.items()},
            "ratio": round(statistics.median(ratios), 4), "interval": interval(ratios),
            "threads_us": threads, "ratios": [round(ratio, 4) for ratio in ratios], "trace_bytes": Collector.taken}


def interval(ratios, draws=2000):
    """Where the median of all such pairs is, with a probability of 95 % (bootstrap)."""
    chance = random.Random(1)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(draws))
    return [round(medians[int(draws * share)], 4) for share in (0.025, 0.975)]


def thread_seconds(pid):
    """CPU time of a process's threads, by name."""
    seconds = collections.defaultdict(float)
    for task in Path(f"/proc/{pid}/task").iterdir():
        seconds[(task / "comm").read_text().strip()] += int((task / "schedstat").read_text().split()[0]) / 1e9
    return seconds
