# Python's websockets: says "open" once its message is back, and at the end how it was closed.
# The asyncio client, because the other one reads and writes a TLS session in two threads, which OpenSSL forbids: some
# requests of it never leave the client (seen: ClientHello and Finished, then nothing).
import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main(url):
    tls = None
    if url.startswith("wss:"):
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    async with connect(url, ssl=tls) as socket:
        message = "z" * 100_000
        await socket.send(message)
        print("open" if await socket.recv() == message else "another message", flush=True)
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            print(f"closed {closed.rcvd.code if closed.rcvd else 1006}", flush=True)


asyncio.run(main(sys.argv[1]))
