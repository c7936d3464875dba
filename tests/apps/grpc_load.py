"""Calls of all four kinds, until standard input ends; then how many there were, and which have failed.

With `unsent` as the third argument, calls that have never left this process may go to the next connection: gRPC's core
cancels what it has given to a connection, and not sent, when GOAWAY comes, and with 'grpc.enable_retries' 0, it calls that
a failure.
"""

import json
import sys
import threading

import grpc

ADDRESS, THREADS = sys.argv[1], int(sys.argv[2])
OPTIONS = [] if sys.argv[3:] == ["unsent"] else [("grpc.enable_retries", 0)]
stop = threading.Event()
lock = threading.Lock()
counts, failed = {}, []


def kinds(channel):
    one = b"x" * 100
    many = [bytes([n]) * 50 for n in range(5)]
    unary = channel.unary_unary("/demo.Echo/Unary")
    collect = channel.stream_unary("/demo.Echo/Collect")
    repeat = channel.unary_stream("/demo.Echo/Repeat")
    both = channel.stream_stream("/demo.Echo/Both")
    return {
        "unary": lambda: unary(one, timeout=20) == one,
        "client": lambda: collect(iter(many), timeout=20) == b"".join(many),
        "server": lambda: list(repeat(one, timeout=20)) == [one] * 5,
        "both": lambda: list(both(iter(many), timeout=20)) == many,
    }


def run(kind, call):
    while not stop.is_set():
        try:
            why = None if call() else "wrong"
        except grpc.RpcError as error:
            why = f"{error.code()}: {error.details()}"
        with lock:
            counts[kind] = counts.get(kind, 0) + 1
            if why:
                failed.append(f"{kind}: {why}")


with grpc.insecure_channel(ADDRESS, options=OPTIONS) as channel:
    calls = kinds(channel)
    threads = [threading.Thread(target=run, args=item) for item in calls.items() for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
print(json.dumps({"calls": counts, "failed": failed}), flush=True)
