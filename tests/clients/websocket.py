# Python's websockets: says "open" once its message is back, and at the end how it was closed.
import ssl
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

tls = None
if sys.argv[1].startswith("wss:"):
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
with connect(sys.argv[1], ssl=tls) as socket:
    message = "z" * 100_000
    socket.send(message)
    print("open" if socket.recv() == message else "another message", flush=True)
    try:
        socket.recv()
    except ConnectionClosed as closed:
        print(f"closed {closed.rcvd.code if closed.rcvd else 1006}", flush=True)
