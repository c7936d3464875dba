"""The three measurements. Each takes a `Lab` and returns plain figures."""

import os
import re
import statistics
import time

import callgrind
import proxies


def two_runs(lab, name, connections, requests, wrapper, setup=proxies.Setup(), **work):
    """Runs the proxy twice, under what `wrapper(number)` says, with two numbers of requests."""
    for number in requests:
        proxy = lab.proxy(name, setup).start(wrapper(number))
        try:
            if setup.http2:
                lab.load_http2(proxy, connections, number, **work)
            else:
                lab.load(proxy, connections, number, **work)
        finally:
            proxy.stop()
        lines = proxy.lines()
        # One that does not log does less work than the others. (A WebSocket is one line, whatever it carries.)
        if lines is not None and lines < number and work.get("work") != "message":
            raise proxies.Failed(f"{name} logged {lines} of {number} requests")


def instructions(lab, name, connections, requests, label="", **work):
    """Instructions per request, start and stop taken out by subtracting the shorter run from the longer."""
    label = label or f"{name}.{connections}"

    def prefix(number):
        return lab.out / f"callgrind.{label}.{number}"

    def wrapper(number):
        for old in lab.out.glob(prefix(number).name + "*"):
            old.unlink()
        return ("valgrind", "--tool=callgrind", "--instr-atstart=yes", "--separate-threads=yes",
                f"--callgrind-out-file={prefix(number)}")

    two_runs(lab, name, connections, requests, wrapper, **work)
    few, many = (callgrind.load(prefix(number)) for number in requests)
    difference = many.minus(few)
    extra = requests[1] - requests[0]
    (lab.out / f"instructions.{label}.txt").write_text(callgrind.report(difference, extra))
    return round(difference.total / extra, 1)


def syscalls(lab, name, connections, requests):
    """System calls per request by name, by the same subtraction."""
    def summary(number):
        return lab.scratch / f"strace.{name}.{connections}.{number}"

    # -D: the proxy stays our own child, so that it gets our signals.
    two_runs(lab, name, connections, requests,
             lambda number: ("strace", "-D", "-f", "-c", "-o", str(summary(number))))
    counts = []
    for number in requests:
        end = time.monotonic() + 10
        while not (text := summary(number).read_text() if summary(number).exists() else "").endswith("total\n"):
            if time.monotonic() > end:
                raise proxies.Failed("strace wrote no summary")
            time.sleep(0.05)
        rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+)(?: +\d+)? +(\w+)$", text, re.MULTILINE)
        counts.append({call: int(count) for count, call in rows if call != "total"})
    few, many = counts
    extra = requests[1] - requests[0]
    difference = {call: round((many[call] - few.get(call, 0)) / extra, 3) for call in many}
    return {call: number for call, number in difference.items() if abs(number) >= 0.002}


def cpu(lab, names, options):
    """CPU time per request. All proxies run all the time; the load goes to one after the other, round after round."""
    running = []
    rounds = {name: [] for name in names}
    try:
        for name in names:
            running.append(lab.proxy(name).start(lab.core))
        for proxy in running:
            lab.load(proxy, options.cpu_connections, options.cpu_requests // 4)
        for number in range(options.rounds):
            # Whoever comes first has the same chance of a bad moment as the others.
            turn = number % len(running)
            for proxy in running[turn:] + running[:turn]:
                before = ticks(proxy.process.pid)
                seconds = lab.load(proxy, options.cpu_connections, options.cpu_requests)["seconds"]
                after = ticks(proxy.process.pid)
                user, system = (after[index] - before[index] for index in (0, 1))
                rounds[proxy.name].append((user, system, seconds))
    finally:
        for proxy in running:
            proxy.stop()
    return {name: summary(rows, options.cpu_requests) for name, rows in rounds.items()}


def summary(rows, requests):
    each = 1e6 / requests
    user, system, total, seconds = (
        [row[0] * each for row in rows],
        [row[1] * each for row in rows],
        [(row[0] + row[1]) * each for row in rows],
        [row[2] for row in rows],
    )
    median = statistics.median
    return {
        "cpu_us": round(median(total), 2),
        "user_us": round(median(user), 2),
        "system_us": round(median(system), 2),
        "per_second": round(requests / median(seconds)),
        "busy": round(median([(row[0] + row[1]) / row[2] for row in rows]), 3),
        "rounds_cpu_us": [round(value, 2) for value in total],
    }


def ticks(pid):
    """User and system time of all threads so far, in seconds."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def cpu_seconds(pid):
    """The time of `ticks` in one number, as exact as the kernel keeps it: in a short round a tick is a per cent."""
    # How Linux numbers the clock of another process (clock_getcpuclockid(3), which Python has for threads only).
    return time.clock_gettime(~pid << 3 | 2)
