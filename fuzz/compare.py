#!/usr/bin/env python3
"""Shows what lameduck forwards to the parsers that apps and clients have: h11 (uvicorn), llhttp (Node) and gunicorn.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install h11 httptools gunicorn
    cargo run --release --manifest-path fuzz/Cargo.toml --example forward requests fuzz/corpus/request_* \\
        | /tmp/venv/bin/python fuzz/compare.py requests

Each must find the same messages, and a canary right after the last one. To refuse a message is fine; to find another
one is a disagreement, which is printed and makes the exit code 1.
"""

import collections
import json
import sys

import h11
import httptools
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser

NEXT_REQUEST = (b"PUT /canary HTTP/1.1\r\nHost: canary\r\n\r\n", (b"PUT", b"/canary", b""))
NEXT_RESPONSE = (b"HTTP/1.1 218 Canary\r\nContent-Length: 0\r\n\r\n", (218, b""))


class Listener:
    """Collects what llhttp finds."""

    def __init__(self):
        self.found = []
        self.parser = None

    def on_message_begin(self):
        self.target = self.content = b""

    def on_url(self, part):
        self.target += part

    def on_body(self, part):
        self.content += part

    def on_message_complete(self):
        if isinstance(self.parser, httptools.HttpRequestParser):
            self.found.append((self.parser.get_method(), self.target, self.content))
        else:
            self.found.append((self.parser.get_status_code(), self.content))


def llhttp(parser, wire):
    listener = Listener()
    listener.parser = parser(listener)
    try:
        listener.parser.feed_data(wire)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as refusal:
        return listener.found, str(refusal)
    return listener.found, None


def llhttp_requests(wire):
    return llhttp(httptools.HttpRequestParser, wire)


def gunicorn_requests(wire):
    found = []
    try:
        for request in RequestParser(Config(), iter([wire]), ("127.0.0.1", 1)):
            head = request.method.encode("latin1"), request.uri.encode("latin1")
            found.append((*head, request.body.read()))
    except ParseException as refusal:
        return found, str(refusal)
    return found, None


def h11_requests(wire):
    found, connection = [], h11.Connection(h11.SERVER)
    connection.receive_data(wire)
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return found, None
            if event is h11.PAUSED:
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            elif isinstance(event, h11.Request):
                head, content = (bytes(event.method), bytes(event.target)), b""
            elif isinstance(event, h11.Data):
                content += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append((*head, content))
    except h11.ProtocolError as refusal:
        return found, str(refusal)


def llhttp_responses(method, wire, following):
    if method == "HEAD":  # It can't be told that there is no body.
        return None, None
    return llhttp(httptools.HttpResponseParser, wire + following)


def h11_responses(method, wire, following):
    found, connection = [], h11.Connection(h11.CLIENT)
    try:
        for asked, answer in ((method, wire), ("GET", following)):
            if found:
                connection.start_next_cycle()
            connection.send(h11.Request(method=asked, target="/", headers=[("host", "a")]))
            connection.send(h11.EndOfMessage())
            connection.receive_data(answer)
            content = b""
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    return found, None
                if isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    content += bytes(event.data)
            found.append((status, content))
            if connection.trailing_data[0]:
                found.append("bytes after the end")
    except h11.ProtocolError as refusal:
        return found, str(refusal)
    return found, None


def cases(kind):
    """The arguments for each reader, and what it must find."""
    for line in sorted(set(sys.stdin)):
        wire, *rest = json.loads(line)
        wire = bytes.fromhex(wire)
        if kind == "requests":
            expected = [tuple(map(bytes.fromhex, request)) for request in rest[0]]
            yield (wire + NEXT_REQUEST[0],), [*expected, NEXT_REQUEST[1]]
        else:
            method, status, content = rest
            expected = [(status, bytes.fromhex(content)), NEXT_RESPONSE[1]]
            yield (method, wire, NEXT_RESPONSE[0]), expected


def main():
    readers = {
        "requests": (h11_requests, llhttp_requests, gunicorn_requests),
        "responses": (h11_responses, llhttp_responses),
    }
    if len(sys.argv) != 2 or sys.argv[1] not in readers:
        sys.exit("say requests or responses")
    counts = collections.Counter()
    for arguments, expected in cases(sys.argv[1]):
        for reader in readers[sys.argv[1]]:
            found, refusal = reader(*arguments)
            if found is None:
                continue
            if found == expected:
                verdict = "same"
            elif refusal is not None and found == expected[: len(found)]:
                verdict = "refused"
            else:
                verdict = "DISAGREES"
                print(reader.__name__, arguments, "found", found, refusal, "not", expected)
            counts[reader.__name__, verdict] += 1
    for (reader, verdict), count in sorted(counts.items()):
        print(f"{reader:20} {verdict:10} {count}")
    sys.exit(any(verdict == "DISAGREES" for _, verdict in counts))


main()
