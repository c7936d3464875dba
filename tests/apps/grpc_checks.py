"""What has to get through besides bytes: deadlines, cancellation, trailers, large messages, many streams."""

import sys
import threading
import time

import grpc

LARGE = 4 * 1024 * 1024
MANY = 1000
options = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
channel = grpc.insecure_channel(sys.argv[1], options=options)
unary = channel.unary_unary("/demo.Echo/Unary")
wait = channel.unary_unary("/demo.Echo/Wait")
cancelled = channel.unary_unary("/demo.Echo/Cancelled")


def until_cancelled(count):
    for _ in range(200):
        if int(cancelled(b"")) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"the server never heard of {count} cancelled calls")


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


assert code_of(lambda: wait(b"", timeout=0.3)) == grpc.StatusCode.DEADLINE_EXCEEDED
until_cancelled(1)
print("ok deadline", flush=True)

call = wait.future(b"")
time.sleep(0.2)
assert call.cancel()
until_cancelled(2)
print("ok cancelled", flush=True)

_, call = unary.with_call(b"x")
assert dict(call.trailing_metadata())["instance"].startswith("app-"), call.trailing_metadata()
print("ok trailers", flush=True)

missing = channel.unary_unary("/demo.Echo/Missing")
assert code_of(lambda: missing(b"")) == grpc.StatusCode.UNIMPLEMENTED
print("ok status", flush=True)

large = bytes(LARGE)
assert unary(large) == large
print("ok large", flush=True)

# A connection takes 100 streams, or a few more: so there are as many connections as it needs.
local = options + [("grpc.use_local_subchannel_pool", 1)]
channels = [grpc.insecure_channel(sys.argv[1], options=local) for _ in range(MANY // 50)]
calls = [channel.stream_stream("/demo.Echo/Both") for channel in channels]
streams = []
for index in range(MANY):
    more = threading.Event()

    def requests(more=more):
        yield b"first"
        more.wait(60)
        yield b"last"

    streams.append((more, calls[index % len(calls)](requests())))
for _, stream in streams:
    assert next(stream) == b"first"
for more, _ in streams:
    more.set()
for _, stream in streams:
    assert list(stream) == [b"last"]
print("ok many", flush=True)
