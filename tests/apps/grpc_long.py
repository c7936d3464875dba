"""One call of each kind that lasts until somebody else ends it. Says `open` once those that get something have got it,
and at the end what became of each."""

import json
import sys
import threading

import grpc

ADDRESS = sys.argv[1]
ended = threading.Event()
ends, lock = {}, threading.Lock()
begun = {"server": threading.Event(), "both": threading.Event()}
one = b"x" * 100


def messages():
    """One, and then nothing more for as long as anything lasts."""
    yield one
    ended.wait()


def run(kind, call):
    count = 0
    try:
        for _ in call():
            count += 1
            begun[kind].set()
        code, details = "OK", ""
    except grpc.RpcError as error:
        code, details = error.code().name, error.details()
    with lock:
        ends[kind] = {"code": code, "details": details, "messages": count}


with grpc.insecure_channel(ADDRESS, options=[("grpc.enable_retries", 0)]) as channel:
    calls = {
        "unary": lambda: [channel.unary_unary("/demo.Echo/Wait")(one)],
        "client": lambda: [channel.stream_unary("/demo.Echo/Collect")(messages())],
        "server": lambda: channel.unary_stream("/demo.Echo/Ticks")(one),
        "both": lambda: channel.stream_stream("/demo.Echo/Both")(messages()),
    }
    threads = [threading.Thread(target=run, args=item) for item in calls.items()]
    for thread in threads:
        thread.start()
    for event in begun.values():
        event.wait()
    print("open", flush=True)
    for thread in threads:
        thread.join()
    ended.set()
print(json.dumps(ends), flush=True)
