"""An app whose restarts keep the listening socket: for gunicorn, or alone with a socket as standard input.

Speaks as the demo app does (`x-demo-id`, `x-demo-app`); each process writes a journal of its own to $JOURNALS.
"""

import json
import os
import time
from urllib.parse import parse_qs


def note(event, **fields):
    line = {"t": time.clock_gettime_ns(time.CLOCK_MONOTONIC), "event": event, **fields}
    journal = os.open(f"{os.environ['JOURNALS']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(journal, (json.dumps(line) + "\n").encode())
    finally:
        os.close(journal)


def app(environ, start_response):
    path = environ["PATH_INFO"]
    request_id = environ.get("HTTP_X_DEMO_ID")
    if request_id:
        note("arrival", id=request_id, method=environ["REQUEST_METHOD"], path=path)
    body = b"hello\n"
    if path == "/echo":
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    elif path == "/slow":
        time.sleep(int(parse_qs(environ["QUERY_STRING"]).get("ms", ["2000"])[0]) / 1000)
    fields = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("x-demo-app", str(os.getpid()))]
    start_response("200 OK", fields)
    return [body]


if __name__ == "__main__":
    import socket
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_):
            pass

    server = WSGIServer(("127.0.0.1", 0), Quiet, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=os.dup(0))
    os.close(0)
    server.server_name, server.server_port = "localhost", server.socket.getsockname()[1]
    server.setup_environ()
    server.set_app(app)
    note("listening")
    server.serve_forever()
