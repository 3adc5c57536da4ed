"""Prints what was measured: a table for each workload, one of its ratios, and the machine on top."""

import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version

from rich.console import Console
from rich.table import Table

from .workload import by_minute

_PACKAGES = ("zerorpc", "gevent", "pyzmq", "msgpack", "lmdb", "redis", "hiredis", "nats-py")
_FIGURES = {    # figure -> heading, format
    "peer_rate": ("peer's\nrate", "{:,.0f}"),
    "server_us": ("server\nus/msg", "{:.2f}"),
    "clients_us": ("clients\nus/msg", "{:.2f}"),
    "server_load": ("server\nload", "{:.0%}"),
    "other_load": ("other\nload", "{:.0%}"),
    "p50_us": ("p50\nus", "{:,.0f}"),
    "p99_us": ("p99\nus", "{:,.0f}"),
    "p999_us": ("p99.9\nus", "{:,.0f}"),
    "later_p50_us": ("later\np50 us", "{:,.0f}"),
    "later_p99_us": ("later\np99 us", "{:,.0f}"),
    "fast": ("not slow", "{:,.0f}"),
    "writer_us": ("writer\nus/msg", "{:.3f}"),
    "all_us": ("processes\nus/msg", "{:.3f}"),
    "server_mib": ("server\nMiB", "{:.0f}"),
    "file_mib": ("file\nMiB", "{:,.0f}"),
    "grown_mib": ("grown by\nMiB", "{:.0f}"),
    "held_bytes": ("server\nbytes each", "{:,.0f}"),
    "idle_load": ("idle\nload", "{:.1%}"),
    "disk_bytes": ("written\nbytes/msg", "{:,.0f}"),
    "hub_lag_ms": ("hub lag\nmost ms", "{:.0f}"),
    "late_ms": ("beats late\nmost ms", "{:.0f}"),
    "joined_s": ("joined\nin s", "{:.1f}"),
    "open_s": ("open\ns", "{:.3f}"),
    "restart_s": ("restart\ns", "{:.2f}"),
}
_console = Console(highlight=False, width=None if os.isatty(1) else 190)


def machine(folder, store):
    """Return what figures depend on, as a map."""
    return {
        "store": store,
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "system": f"{platform.system()} {platform.release()}, {os.cpu_count()} processors",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "fdatasync_us": fdatasync_us(folder),
    }


def fdatasync_us(folder):
    """Return the median time of making 100 bytes durable in *folder*."""
    with tempfile.TemporaryFile(dir=folder) as file:
        times = []
        for _ in range(200):
            began = time.perf_counter()
            file.write(b"x" * 100)
            file.flush()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def print_machine(facts):
    packages = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    _console.print(f"{facts['system']}; Python {facts['python']}; {packages}; "
                   f"fdatasync of 100 bytes {facts['fdatasync_us']:.0f} us; TCP loopback; store {facts['store']}")


def print_progress(text):
    _console.print(f"[dim]{text}[/dim]")


def print_skipped(text):
    _console.print(f"[bold]Skipped:[/bold] {text}")


def print_workload(workload, rounds):
    """*rounds*: for each round a map of case name to figures."""
    present = [name for name in _FIGURES if any(name in one for figures in rounds for one in figures.values())]
    tag = f" ({workload.tag})" if workload.tag else ""
    table = Table(title=f"{workload.name}{tag}: {workload.title}", title_justify="left")
    table.add_column("peer")
    for heading in (workload.unit.replace(" ", "\n", 1), "spread", "goal", *(_FIGURES[name][0] for name in present)):
        table.add_column(heading, justify="right")
    table.add_column("bound by")
    table.add_column("durability")
    for case in workload.cases:
        if case.name not in rounds[0]:
            continue
        runs = [figures[case.name] for figures in rounds]
        rates = [one["rate"] for one in runs]
        middles = [_FIGURES[name][1].format(statistics.median(one[name] for one in runs)) if name in runs[0] else ""
                   for name in present]
        table.add_row(case.name, f"{statistics.median(rates):,.0f}", _spread(rates), case.goal, *middles,
                      statistics.mode(one["bound"] for one in runs), case.durability)
    _console.print(table)
    _print_ratios(workload, rounds)
    for case, rows in by_minute(rounds):
        table = Table(title=f"{case}, minute by minute", title_justify="left")
        for heading in rows[0]:
            table.add_column(heading, justify="right")
        for row in rows[1:]:
            table.add_row(*row)
        _console.print(table)


def _print_ratios(workload, rounds):
    table = Table(title=f"{workload.name}: ratios within a round", title_justify="left")
    table.add_column("of")
    table.add_column("over")
    for heading in ("ratio", "from", "to", "goal"):
        table.add_column(heading, justify="right")
    for one in workload.ratios:
        if not rounds[0].keys() >= set(one.cases):
            continue
        ratios = [one.within(figures) for figures in rounds]
        named = one.figure != "rate"
        over = ("minus " if one.minus else "") + " + ".join(one.cases[1:])
        table.add_row(one.of + (f": {one.figure}" if named else ""),
                      over + (f": {one.base or one.figure}" if named else ""),
                      *(f"{ratio:.2f}" for ratio in (statistics.median(ratios), min(ratios), max(ratios))), one.goal)
    if table.rows:
        _console.print(table)


def _spread(values):
    """(max - min) / median, of several rounds."""
    return f"{(max(values) - min(values)) / statistics.median(values):.0%}" if len(values) > 1 else ""
