"""`benches/run peers`: rounds in turn of every row with every proxy, and one table of their medians."""

import statistics
import time

import others
import proxies
import rows as usual


class Options:
    """How much of it."""

    def __init__(self, rounds=5, share=1.0, clients=10_000, rate=0, seconds=5):
        self.rounds, self.share, self.clients, self.rate, self.seconds = rounds, share, clients, rate, seconds

    def scaled(self, number):
        return max(int(number * self.share), 16)


def measure(lab, names, chosen, options, say, known, of=usual.ROWS):
    """All rows chosen `of` these; by row and proxy `{"figures": {name: [each round]}}` or `{"lacking": why}`."""
    results = {}
    for key in chosen:
        row = of[key]
        if key == "latency" and not options.rate:
            options.rate = fair_rate(results.get("get") or known.get("get", {}))
        started = time.monotonic()
        results[key] = rounds(lab, row, names, options)
        if key == "latency":
            results[key]["rate"] = options.rate
        for line in lines(row, results[key], names):
            say(line)
        say(f"{'':4}({time.monotonic() - started:.0f} s)")
    return results


def fair_rate(got):
    """Six tenths of what the slower of lameduck and HAProxy can do on one core."""
    rates = [statistics.median(got[name]["figures"]["per_second"]) for name in ("lameduck", "haproxy")
             if "figures" in got.get(name, {})]
    return int(0.6 * min(rates)) // 100 * 100 if rates else 10_000


def rounds(lab, row, names, options):
    """One at a time runs, from start to stop, so that none has another's probes beside it; who comes first changes."""
    table = {name: {"lacking": "has no such setup"} if name in row.without else {} for name in names}
    for number in range(min(options.rounds, row.most_rounds)):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            mine = table[name]
            if "lacking" in mine:
                continue
            try:
                for figure, value in once(lab, row, name, options).items():
                    mine.setdefault("figures", {}).setdefault(figure, []).append(round(value, 3))
            except proxies.Lacking as lacking:
                table[name] = {"lacking": str(lacking)}
            except proxies.Failed as failed:
                # One peer that fails a row is a result, and no reason to lose the others'.
                table[name] = {"lacking": f"failed: {failed}"}
    return table


def once(lab, row, name, options):
    proxy = lab.proxy(name, row.setup)
    proxy.start(lab.core if row.setup.threads == 1 else ())
    try:
        lab.load(proxy, 16, options.scaled(4_000), **row.warm)
        return row.measure(lab, proxy, options)
    finally:
        proxy.stop()


def median(cell, figure):
    return statistics.median(cell["figures"][figure])


def ratio(mine, theirs):
    """Theirs to lameduck's."""
    return theirs / mine if mine else float("nan")


def lines(row, table, names):
    """A row as text: each figure's median, its spread, and its ratio to lameduck's."""
    at = f", {table['rate']:,} requests/s" if table.get("rate") else ""
    yield f"{row.title}{at}"
    for name in names:
        cell = table[name]
        if "figures" not in cell:
            yield f"    {name:15} skipped: {cell.get('lacking', 'nothing measured')}"
            continue
        parts = []
        for figure, about in row.figures.items():
            each = cell["figures"][figure]
            text = f"{median(cell, figure):>11,.{about.digits}f} {about.unit}"
            base = table.get("lameduck", {}).get("figures")
            if base and about.better:
                text += f" ×{ratio(median(table['lameduck'], figure), median(cell, figure)):.2f}"
            if len(each) > 1:
                text += f" ({min(each):,.{about.digits}f}–{max(each):,.{about.digits}f})"
            parts.append(text)
        yield f"    {name:15}" + "  ".join(parts)


def notes(names):
    """What each lacks beside what is asked of all."""
    return {name: others.ALL[name].note for name in names if others.ALL[name].note}
