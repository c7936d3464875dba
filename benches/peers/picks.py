"""`benches/run pick`: what one choice of a backend costs, by algorithm and number of backends (benches/pick.rs)."""

import json
import re
import shutil
import subprocess

# What goes round each pick costs, too: it is measured alone, and taken off.
ALONE = "nothing"
FEW, MANY = 5_000, 25_000


def build(root):
    """The program, built with the profile of the gate."""
    command = ["cargo", "bench", "--no-run", "--profile", "gate", "--bench", "pick", "--message-format", "json"]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    built = [message for message in map(json.loads, done.stdout.splitlines())
             if message.get("executable") and message["target"]["name"] == "pick"]
    return built[-1]["executable"]


def measure(root, out):
    """Figures by algorithm and number of backends; instructions where valgrind is there."""
    program = build(root)
    done = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True)
    figures = {}
    for line in map(json.loads, done.stdout.splitlines()):
        cell = figures.setdefault(line["algorithm"], {})[line["backends"]] = {"ns": line["ns"], "allocations": line["allocations"]}
        if shutil.which("valgrind"):
            few, many = (count(program, out, line["algorithm"], line["backends"], picks) for picks in (FEW, MANY))
            cell["instructions"] = (many - few) / (MANY - FEW)
    return without(figures)


def without(figures):
    """The same without what goes round each pick."""
    alone = figures[ALONE]
    return {name: {size: {key: value if key == "allocations" else round(value - alone[size][key], 1)
                          for key, value in cell.items()} for size, cell in sizes.items()}
            for name, sizes in figures.items() if name != ALONE}


def count(program, out, algorithm, backends, picks):
    """Instructions of so many picks, with all that comes before them."""
    file = out / "callgrind.pick"
    subprocess.run(["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={file}", program, "--algorithm", algorithm,
                    "--backends", str(backends), "--picks", str(picks)], check=True, capture_output=True)
    return int(re.search(r"^(?:summary|totals): (\d+)", file.read_text(), re.MULTILINE).group(1))


def lines(figures):
    """A line for each algorithm."""
    sizes = sorted(next(iter(figures.values())))
    yield f"{'':18}" + "".join(f"{size:>26,}" for size in sizes)
    for name, cells in figures.items():
        parts = [f"{cells[size]['ns']:,.1f} ns, " + (f"{cells[size]['instructions']:,.0f} instr., "
                 if "instructions" in cells[size] else "") + f"{cells[size]['allocations']} alloc." for size in sizes]
        yield f"  {name:16}" + "".join(f"{part:>32}" for part in parts)
