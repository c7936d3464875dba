"""Instructions per request beside those on record: what makes a request dearer must be somebody's decision.

The record is benches/instructions.toml. Figures are of the build profile `gate`, one connection, user instructions by
callgrind: they don't depend on what else the machine does, but on the compiler.
"""

import re
import subprocess
import tomllib

import measures
import proxies
from proxies import Setup

# Beyond this, it fails. A figure that fell by more should be put on record, or the next rise goes unnoticed.
TOLERANCE = 0.03

# What is counted: the load's options (and the proxy's setup), and the two numbers of requests. Only what comes out alike each time, to half a
# per cent: large bodies don't, for the kernel decides how many pieces they come in.
WORKS = {
    "get": ({}, (1000, 6000)),
    "post_16k": ({"work": "post", "size": 16384}, (500, 2500)),
    "websocket_message": ({"work": "message"}, (1000, 6000)),
    "get_http2": ({"setup": Setup(http2=True)}, (1000, 6000)),
    "get_http2_to_http2": ({"setup": Setup(http2=True, http2_backend=True)}, (1000, 6000)),
}


class Grown(Exception):
    """Some figure is above its record."""


def compiler():
    """The compiler's version, without its date."""
    version = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout
    return re.match(r"rustc ([\d.]+)", version).group(1)


def count(lab, works=WORKS):
    """Each work's instructions per request."""
    return {name: round(measures.instructions(lab, "lameduck", 1, requests, label=f"gate-{name}", **options))
            for name, (options, requests) in works.items()}


def read(path):
    return tomllib.loads(path.read_text())


def put(path, counted):
    """Puts figures on record. Comments at the top of the file stay, and the figures that were not counted now."""
    text = path.read_text() if path.exists() else ""
    comments = "".join(line + "\n" for line in text.splitlines() if line.startswith("#"))
    figures = tomllib.loads(text).get("instructions", {}) | counted
    figures = "".join(f"{name} = {cost}\n" for name, cost in figures.items())
    path.write_text(f'{comments}\nrustc = "{compiler()}"\n\n[instructions]\n{figures}')


def compare(record, counted, rustc):
    """Lines to print, and what is wrong: pure, so that a test can show that it fails when it must."""
    lines, wrong = [], []
    recorded = record["instructions"]
    for name, cost in counted.items():
        if name not in recorded:
            wrong.append(f"{name} is not on record: `benches/run gate --record` puts it there")
            continue
        change = cost / recorded[name] - 1
        lines.append(f"  {name:20}{cost:12,} on record {recorded[name]:12,}  {100 * change:+6.2f} %")
        if change > TOLERANCE:
            wrong.append(f"{name}: {cost:,} instructions, {100 * change:+.1f} % over the {recorded[name]:,} on record")
        elif change < -TOLERANCE:
            lines.append(f"  {name} has become cheaper: `benches/run gate --record` keeps it so")
    for name in recorded.keys() - counted.keys():
        wrong.append(f"{name} is on record and was not counted")
    if record["rustc"] != rustc:
        lines.append(f"  The record was made with rustc {record['rustc']}, this build with {rustc}: a change may be the "
                     "compiler's; then put the new figures on record.")
    return lines, wrong


def check(lab, path, say, works=WORKS):
    """Counts, prints, and fails if a figure has grown too far."""
    if not path.exists():
        raise proxies.Failed(f"there is no {path}: `benches/run gate --record` makes it")
    on_record = read(path)
    if works is not WORKS and works.keys() < WORKS.keys():
        figures = on_record["instructions"]
        on_record["instructions"] = {name: figures[name] for name in figures if name in works}
    lines, wrong = compare(on_record, count(lab, works), compiler())
    say(f"user instructions per request, one connection (fails above {100 * TOLERANCE:+.0f} %)")
    for line in lines:
        say(line)
    if wrong:
        raise Grown("\n".join([*wrong, "By function: target/bench/instructions.gate-*.txt. If it is worth its price, "
                               "`benches/run gate --record` puts it on record, and the commit says why."]))
