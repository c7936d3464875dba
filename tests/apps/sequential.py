"""An app that knows no health URL, for WSGI and ASGI servers; run alone, it is wsgiref's own server."""

import sys


def wsgi(environ, start_response):
    known = environ["PATH_INFO"] == "/"
    body = b"hello\n" if known else b"no such page\n"
    status = "200 OK" if known else "404 Not Found"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    known = scope["path"] == "/"
    body = b"hello\n" if known else b"no such page\n"
    fields = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200 if known else 404, "headers": fields})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", int(sys.argv[1]), wsgi).serve_forever()
