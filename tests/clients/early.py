# Posts large bodies with httpx, and prints a line for each answer: its protocol, status and text, or the error.
# Arguments: `1.1` or `2` for the protocol; then `length` or `chunked` and the URL, for each.
import sys

import httpx

PROTOCOL, *QUESTIONS = sys.argv[1:]
PIECE = b"x" * 65536
COUNT = 128


def pieces():
    for _ in range(COUNT):
        yield PIECE


for form, url in zip(QUESTIONS[::2], QUESTIONS[1::2]):
    # A connection for each.
    with httpx.Client(http1=PROTOCOL == "1.1", http2=PROTOCOL == "2", verify=False, timeout=20) as client:
        try:
            answer = client.post(url, content=PIECE * COUNT if form == "length" else pieces())
            print(answer.http_version.removeprefix("HTTP/").removesuffix(".0"), answer.status_code, answer.text.strip())
        except httpx.HTTPError as error:
            print(repr(error))
