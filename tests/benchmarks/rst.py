"""The tables of docs/performance.rst: what was measured, as reStructuredText."""

import statistics

from .workload import by_minute

_GOAL_SIGNS = ("<", ">")


def tables(workloads, measured, facts):
    """Yield the lines of a section for each of *measured* (name -> rounds, as run.py keeps it)."""
    yield (f"{facts['system']}, Python {facts['python']}, fdatasync of 100 bytes {facts['fdatasync_us']:.0f} us, "
           f"{facts['time']}.")
    for name, rounds in measured.items():
        workload = workloads[name]
        yield from ("", _title(workload, rounds), "~" * len(_title(workload, rounds)), "")
        yield from _table(_measured_rows(workload, rounds))
        ratios = _ratio_rows(workload, rounds)
        if len(ratios) > 1:
            yield ""
            yield from _table(ratios)
        for _, rows in by_minute(rounds):
            yield ""
            yield from _table(rows)


def _title(workload, rounds):
    many = f"{len(rounds)} round{'s' if len(rounds) > 1 else ''}"
    return f"{workload.tag + ': ' if workload.tag else ''}{workload.title} ({workload.unit}; {many})"


def _measured_rows(workload, rounds):
    rows = [["peer", "rate", "spread", "p50 us", "p99 us", "server us/msg", "others' load", "bound by"]]
    for case in workload.cases:
        runs = [figures[case.name] for figures in rounds if case.name in figures]
        if runs:
            rates = [one["rate"] for one in runs]
            rows.append([case.name, f"{statistics.median(rates):,.0f}",
                         f"{(max(rates) - min(rates)) / statistics.median(rates):.0%}",
                         _middle(runs, "p50_us", "{:,.0f}"), _middle(runs, "p99_us", "{:,.0f}"),
                         _middle(runs, "server_us", "{:.2f}"), _middle(runs, "other_load", "{:.0%}"),
                         statistics.mode(one["bound"] for one in runs)])
    return rows


def _middle(runs, figure, form):
    return form.format(statistics.median(one[figure] for one in runs)) if figure in runs[0] else ""


def _ratio_rows(workload, rounds):
    rows = [["of", "over", "ratio", "from", "to", "goal", ""]]
    for ratio in workload.ratios:
        if rounds[0].keys() >= set(ratio.cases):
            found = [ratio.within(figures) for figures in rounds]
            middle = statistics.median(found)
            figure = "" if ratio.figure == "rate" else f": {ratio.figure}"
            rows.append([ratio.of + figure, ("minus " if ratio.minus else "") + " + ".join(ratio.cases[1:]),
                         f"{middle:.2f}", f"{min(found):.2f}", f"{max(found):.2f}", ratio.goal,
                         _verdict(found, ratio.goal)])
    return rows


def _verdict(found, goal):
    """Return whether all rounds reach *goal*, a least number or ``< most``; empty where there is none."""
    sign, number = (goal[0], goal[1:]) if goal.startswith(_GOAL_SIGNS) else (">", goal)
    try:
        wanted = float(number)
    except ValueError:
        return ""
    reached = [one < wanted if sign == "<" else one >= wanted for one in found]
    return "reached" if all(reached) else "in doubt" if any(reached) else "missed"


def _table(rows):
    """Yield a simple table; the first row is its head."""
    widths = [max(max(len(row[at]) for row in rows), 5) for at in range(len(rows[0]))]
    edge = "  ".join("=" * width for width in widths)
    yield edge
    for number, row in enumerate(rows):
        yield "  ".join((cell or "..").ljust(width) if at == 0 else (cell or "\\").ljust(width)
                        for at, (cell, width) in enumerate(zip(row, widths))).rstrip()
        if number == 0:
            yield edge
    yield edge
