"""What lameduck takes of a machine that hardly asks anything of it: idle clients, and many probed backends."""

import resource
import socket
import time

import proxies
from measures import ticks

REQUEST = b"GET /hello HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n"
# The end of the backend's one answer.
END = b"Hello, world\n"


def resident(pid):
    """Resident memory in bytes."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


class Clients:
    """Clients that have asked once each, and stay."""

    def __init__(self, proxy, number):
        self.address = proxy.address.rpartition(":")
        self.number = number
        self.sockets = []

    def __enter__(self):
        host, _, port = self.address
        try:
            for _ in range(self.number):
                client = socket.create_connection((host, int(port)), timeout=30)
                self.sockets.append(client)
                client.sendall(REQUEST)
                answer(client)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for client in self.sockets:
            client.close()

    def all_at_once(self):
        """Once more, before the first answer is read."""
        for client in self.sockets:
            client.sendall(REQUEST)
        for client in self.sockets:
            answer(client)


def idle(lab, clients, name="lameduck"):
    """Memory with so many idle keep-alive clients, after one request each, and after one of all of them at once."""
    room, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if room < clients + 200:
        raise proxies.Failed(f"{clients} clients need ulimit -n {clients + 200}; it is {room}")
    proxy = lab.proxy(name).start(lab.core)
    try:
        lab.load(proxy, 16, 1_000)
        empty = settled(proxy.process.pid)
        with Clients(proxy, clients) as connected:
            one_by_one = settled(proxy.process.pid)
            connected.all_at_once()
            at_once = settled(proxy.process.pid)
            started = time.monotonic()
            before = sum(ticks(proxy.process.pid))
            time.sleep(10)
            busy = (sum(ticks(proxy.process.pid)) - before) / (time.monotonic() - started)
    finally:
        proxy.stop()
    return {
        "clients": clients,
        "empty_bytes": empty,
        "bytes": one_by_one,
        "bytes_per_client": round((one_by_one - empty) / clients),
        "bytes_after_all_at_once": at_once,
        "core_share": round(busy, 4),
    }


def answer(client):
    data = b""
    while not data.endswith(END):
        chunk = client.recv(65536)
        if not chunk:
            raise proxies.Failed("a client's connection was closed")
        data += chunk


def settled(pid):
    """Memory once what is kept for a moment (connections to the backend: 4 s) has gone."""
    time.sleep(6)
    return resident(pid)


def probes(lab, backends, seconds):
    """CPU time and memory of probing so many backends every second, and nothing else."""
    proxy = lab.proxy("lameduck", proxies.Setup(backends=backends)).start(lab.core)
    try:
        time.sleep(5)
        passed = probe_count(proxy)
        user, system = ticks(proxy.process.pid)
        started = time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - started
        after = ticks(proxy.process.pid)
        passed = probe_count(proxy) - passed
        memory = resident(proxy.process.pid)
    finally:
        proxy.stop()
    if passed < 0.8 * backends * elapsed:
        raise proxies.Failed(f"only {passed} probes passed in {elapsed:.0f} s")
    user, system = ((after[index] - before) / elapsed for index, before in enumerate((user, system)))
    return {
        "backends": backends,
        "probes_per_second": round(passed / elapsed),
        "core_share": round(user + system, 4),
        "core_share_user": round(user, 4),
        "cpu_us_per_probe": round(1e6 * (user + system) * elapsed / passed, 1),
        "bytes": memory,
    }


def probe_count(proxy):
    """Probes that passed so far, of all backends."""
    lines = proxy.admin("/metrics")[1].decode().splitlines()
    return sum(int(float(line.rpartition(" ")[2])) for line in lines
               if line.startswith("lameduck_probe_total{") and 'result="pass"' in line)
