"""An app that speaks gRPC: all four kinds of calls, the standard health service, and an orderly stop.

Prints `ready PORT`, and at its end how many calls it had, and how many of them began after it was signalled.
"""

import json
import signal
import sys
import threading
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

NAME, PORT = sys.argv[1], sys.argv[2]
# Each stream takes one for as long as it lasts.
MANY = 1200
signalled = threading.Event()
counts = {"calls": 0, "late": 0, "cancelled": 0}
lock = threading.Lock()


def count(what):
    with lock:
        counts[what] += 1


def greet(context):
    count("calls")
    if signalled.is_set():
        count("late")
    context.set_trailing_metadata((("instance", NAME),))


def unary(request, context):
    greet(context)
    return request


def wait(request, context):
    """Until the client has had enough."""
    greet(context)
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(20)
    count("cancelled")
    return request


def collect(requests, context):
    greet(context)
    return b"".join(requests)


def repeat(request, context):
    greet(context)
    for _ in range(5):
        yield request
        time.sleep(0.01)


def ticks(request, context):
    """For as long as the client listens."""
    greet(context)
    while context.is_active():
        yield request
        time.sleep(0.02)


def both(requests, context):
    greet(context)
    yield from requests


def cancelled(_, context):
    return str(counts["cancelled"]).encode()


server = grpc.server(futures.ThreadPoolExecutor(max_workers=MANY), options=[("grpc.max_receive_message_length", -1)])
handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
    "Cancelled": grpc.unary_unary_rpc_method_handler(cancelled),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Repeat": grpc.unary_stream_rpc_method_handler(repeat),
    "Ticks": grpc.unary_stream_rpc_method_handler(ticks),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.Echo", handlers),))
checks = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(checks, server)
checks.set("", health_pb2.HealthCheckResponse.SERVING)
signal.signal(signal.SIGTERM, lambda *_: signalled.set())
port = server.add_insecure_port(f"127.0.0.1:{PORT}")
server.start()
print("ready", port, flush=True)
while not signalled.wait(0.01):
    pass
checks.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
# grpcio answers CANCELLED to calls that reach it once it stops: until this is known, they have to be served.
time.sleep(0.5)
server.stop(10).wait()
print(json.dumps(counts), flush=True)
