"""Whether lameduck stays as it is: no stall while it is reloaded and drained, no growth over many requests."""

import threading
import time

import proxies
import scale
from reaction import Admin


def stalls(lab, names, backends, rate, seconds):
    """Latency at a fixed rate with many probed backends: left alone, under reloads, and under drains. The others are left
    alone, with as many backends (nginx does not probe them): what they have is what the machine and the load add."""
    figures = {}
    for name in sorted({"lameduck", "haproxy", "nginx"} & set(names), key=lambda name: name != "lameduck"):
        kinds = (("probes only", None), ("reloads", reload), ("drains", drain)) if name == "lameduck" else ((name, None),)
        proxy = lab.proxy(name, proxies.Setup(backends=backends)).start(lab.core)
        try:
            lab.load(proxy, 64, rate, rate=rate)
            figures |= {what: during(lab, proxy, act, rate, seconds) for what, act in kinds}
        finally:
            proxy.stop()
    return figures


def during(lab, proxy, act, rate, seconds):
    """The load's figures while `act` is done again and again."""
    over, done, failures = threading.Event(), [0], []

    def again():
        admin = Admin(str(proxy.dir / "admin.sock"))
        names = [one["name"] for one in admin.ask("GET", "/v1/pools/app")["backends"]]
        try:
            while not over.wait(0.1):
                act(proxy, admin, names[done[0] % len(names)])
                done[0] += 1
        except (OSError, proxies.Failed) as failure:
            failures.append(str(failure))

    thread = threading.Thread(target=again)
    if act:
        thread.start()
    try:
        figures = lab.load(proxy, 64, rate * seconds, rate=rate)
    finally:
        over.set()
        if act:
            thread.join()
    if failures:
        raise proxies.Failed(failures[0])
    kept = ("p50_us", "p99_us", "p999_us", "max_us", "stalled", "requests")
    return {name: figures[name] for name in kept} | {"acts": done[0]}


def reload(proxy, admin, _):
    """A changed configuration each time, so that there is something to apply."""
    config = proxy.dir / "lameduck.toml"
    text = config.read_text()
    new = "interval = \"2s\"" if "interval = \"1s\"" in text else "interval = \"1s\""
    text = text.split("[pool.health]")[0]
    config.write_text(f"{text}[pool.health]\n{new}\n")
    admin.ask("POST", "/v1/config/reload", {})


def drain(_, admin, name):
    path = f"/v1/pools/app/backends/{name}"
    admin.ask("POST", f"{path}/drain", {"timeout": "5s"})
    admin.ask("POST", f"{path}/resume", {})


def memory(lab, requests, parts=10):
    """Resident memory after each tenth of so many requests."""
    proxy = lab.proxy("lameduck").start(lab.core)
    try:
        lab.load(proxy, 64, 20_000)
        sizes, started = [scale.settled(proxy.process.pid)], time.monotonic()
        for _ in range(parts):
            lab.load(proxy, 64, requests // parts)
            sizes.append(scale.resident(proxy.process.pid))
        return {"requests": requests, "bytes": sizes, "seconds": round(time.monotonic() - started)}
    finally:
        proxy.stop()
