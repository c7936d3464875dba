"""Reads callgrind's profiles, and subtracts one from another.

Self cost of a function: what its own lines cost. Inclusive: plus what it called. A function that comes back to
itself through others is counted once for each round, as in callgrind_annotate.
"""

import re
from collections import defaultdict

NAME = re.compile(r"\((\d+)\)(?: (.*))?")


class Profile:
    """Costs by function name, and calls by pair of names."""

    def __init__(self):
        self.own = defaultdict(int)
        self.inclusive = defaultdict(int)
        self.calls = defaultdict(int)
        self.called = defaultdict(int)
        self.threads = {}

    @property
    def total(self):
        return sum(self.own.values())

    def minus(self, other):
        """What this one has more, as a profile."""
        result = Profile()
        for table in ("own", "inclusive", "calls", "called", "threads"):
            mine, theirs, out = (getattr(profile, table) for profile in (self, other, result))
            for key in {**mine, **theirs}:
                out[key] = mine.get(key, 0) - theirs.get(key, 0)
        return result

    def read(self, path):
        """Adds the profile of one thread."""
        names, current, callee, count, before = {}, None, None, 0, self.total
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(("fn=", "cfn=")):
                    number, name = NAME.match(line.partition("=")[2]).groups()
                    if name:
                        names[number] = tidy(name)
                    if line[0] == "f":
                        current = names[number]
                    else:
                        callee = names[number]
                elif line.startswith("calls="):
                    count = int(line[6:].split()[0])
                    cost = int(next(lines).split()[1])
                    self.calls[current, callee] += count
                    self.called[current, callee] += cost
                    self.inclusive[current] += cost
                elif line[0] in "0123456789+-*" and current:
                    parts = line.split()
                    cost = int(parts[1]) if len(parts) > 1 else 0
                    self.own[current] += cost
                    self.inclusive[current] += cost
        self.threads[path.name.rpartition("-")[2]] = self.total - before


def tidy(name):
    """Shortens what makes Rust's names long and says little."""
    name = re.sub(r"::h[0-9a-f]{16}\b", "", name)
    for long, short in (("alloc::", ""), ("core::", ""), ("lameduck::", "")):
        name = name.replace(long, short)
    return name


def load(prefix):
    """All threads of one run: PREFIX-01, PREFIX-02, …"""
    profile = Profile()
    paths = sorted(prefix.parent.glob(prefix.name + "-*")) or [prefix]
    for path in paths:
        profile.read(path)
    return profile


def report(profile, requests, top=40):
    """Text: the most expensive functions per request, by self and by inclusive cost, and who calls the former."""
    total = profile.total
    out = [f"{total / requests:,.0f} instructions per request", "", "by thread:"]
    for thread, cost in sorted(profile.threads.items()):
        out.append(f"  {thread}  {cost / requests:10,.1f}")
    callers = defaultdict(list)
    for (caller, callee), calls in profile.calls.items():
        callers[callee].append((calls, caller))
    for title, table in (("self", profile.own), ("inclusive", profile.inclusive)):
        out += ["", f"{title}: instructions, share, calls per request, function"]
        for name, cost in sorted(table.items(), key=lambda item: -item[1])[:top]:
            calls = sum(count for count, _ in callers[name]) / requests
            out.append(f"  {cost / requests:9,.1f} {100 * cost / total:5.1f} % {calls:8.2f}  {name}")
            if title == "self":
                for count, caller in sorted(callers[name], reverse=True)[:4]:
                    if count / requests >= 0.05:
                        cost = profile.called[caller, name] / requests
                        out.append(f"  {'':28}← {count / requests:.2f} ({cost:,.0f}) {caller}")
    return "\n".join(out) + "\n"
