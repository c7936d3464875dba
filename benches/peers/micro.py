"""`benches/run micro`: what the small steps of a request cost, as curves. The benchmarks are in benches/micro.rs (divan)."""

import re
import subprocess

UNITS = {"ps": 1e-3, "ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}
ROW = re.compile(r"^(│ +| +)?[├╰]─ (\S+) +(?:([\d.]+) (\S+) +│ +[\d.]+ \S+ +│ +([\d.]+) (\S+) +│)?")


def measure(root):
    """Nanoseconds (median) by benchmark; by size where it has sizes."""
    done = subprocess.run(["cargo", "bench", "--bench", "micro"], cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return parse(done.stdout)


def parse(text):
    """divan's tables as figures."""
    figures, group = {}, None
    for line in text.splitlines():
        found = ROW.match(line)
        if not found:
            continue
        inner, name, _, _, median, unit = found.groups()
        if median is None:
            group, figures[name] = name, {}
        elif inner:
            figures[group][int(name)] = round(float(median) * UNITS[unit], 2)
        else:
            figures[name] = round(float(median) * UNITS[unit], 2)
    return figures


def lines(figures):
    """A line for each; for those with sizes, how the cost grew beside the size."""
    for name, figure in figures.items():
        if not isinstance(figure, dict):
            yield f"  {name:22}{figure:10,.1f} ns"
            continue
        sizes = sorted(figure)
        each = ", ".join(f"{size:,}: {figure[size]:,.1f} ns" for size in sizes)
        yield (f"  {name:22}{each}   (size ×{sizes[-1] // sizes[0]:,}: cost ×{figure[sizes[-1]] / figure[sizes[0]]:.1f})")
