"""What it costs to see everything: traces at 1 % to a collector that takes them, metrics scraped each second, the access
log, against nothing of it."""

import contextlib
import statistics
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
    """CPU time per request, in rounds that alternate between nothing and everything."""
    with collector() as address:
        chosen = {name: setup for name, setup in setups(address).items()
                  if name in ("nothing", "everything, traces at 1 %")}
        running, rounds = {}, {name: [] for name in chosen}
        try:
            for name, setup in chosen.items():
                running[name] = lab.proxy("lameduck", setup).start(lab.core)
                lab.load(running[name], options.cpu_connections, options.cpu_requests // 4)
            for number in range(options.rounds):
                # Whoever comes first has the same chance of a bad moment as the other.
                for name in sorted(running, reverse=number % 2 == 1):
                    proxy = running[name]
                    watched = scraped(proxy) if name != "nothing" else contextlib.nullcontext()
                    with watched:
                        before = measures.cpu_seconds(proxy.process.pid)
                        lab.load(proxy, options.cpu_connections, options.cpu_requests)
                        spent = measures.cpu_seconds(proxy.process.pid) - before
                    rounds[name].append(spent * 1e6 / options.cpu_requests)
        finally:
            for proxy in running.values():
                proxy.stop()
    off, on = (rounds[name] for name in chosen)
    ratios = [b / a for a, b in zip(off, on)]
    quartiles = statistics.quantiles(ratios, n=4)[::2] if len(ratios) > 1 else ratios * 2
    return {"cpu_us": {name: round(statistics.median(figures), 2) for name, figures in rounds.items()},
            "ratio": round(statistics.median(ratios), 4), "quartiles": [round(ratio, 4) for ratio in quartiles],
            "ratio_of_sums": round(sum(on) / sum(off), 4), "ratios": [round(ratio, 4) for ratio in ratios],
            "trace_bytes": Collector.taken}
