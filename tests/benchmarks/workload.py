"""What a workload is: cases that are measured alternately, and what is compared with what."""

from collections.abc import Callable
from typing import NamedTuple

FSYNC = "fsync before the answer"
FSYNC_EACH = "fsync, one each"
EVERY_SECOND = "fsync each second: a power loss takes the last one"
PAGE_CACHE = "page cache: a power loss takes the last minutes"
NONE = "none"
LOG = "read from the log"


class Case(NamedTuple):
    """One peer under one load. ``run(stage, scale)`` returns figures: a dict of numbers, ``rate`` among them."""

    name: str
    durability: str
    run: Callable
    goal: str = ""


class Ratio(NamedTuple):
    """*figure* of case *of* over *base* (the same, if empty) of case *over*, taken within each round.

    *over* may be several cases, that are done one after the other for each message: their rates in series.
    With *minus* it is how much more the figure is, not how many times.
    """

    of: str
    over: str | tuple
    goal: str = ""
    figure: str = "rate"
    base: str = ""
    minus: bool = False

    @property
    def cases(self):
        """The names of all its cases."""
        return self.of, *((self.over,) if isinstance(self.over, str) else self.over)

    def within(self, figures):
        """Return the ratio of one round, from a map of case name to figures."""
        base = self.base or self.figure
        if self.minus:
            return figures[self.of][self.figure] - figures[self.over][base]
        if isinstance(self.over, str):
            return figures[self.of][self.figure] / figures[self.over][base]
        return figures[self.of][self.figure] * sum(1 / figures[one][base] for one in self.over)


class Workload(NamedTuple):
    """``name`` chooses it on the command line, and so does its ``tag``; ``unit`` says what ``rate`` counts."""

    name: str
    title: str
    unit: str
    cases: list
    ratios: list
    tag: str = ""


class Scale(NamedTuple):
    """How much is done: ``of(n)`` is the share of *n* in this run; ``long``: all that a workload has to show."""

    quick: bool
    long: bool = False

    def of(self, count):
        return max(count // 10, 1) if self.quick else count


def figures(measured, messages, **more):
    """Return the figures of a run in which *messages* were published or delivered."""
    latencies = [one["latencies"] for one in measured.results if "latencies" in one]
    seconds = measured.seconds
    return {
        "rate": messages / seconds,
        "server_us": measured.server_cpu_s / messages * 1e6,
        "clients_us": measured.clients_cpu_s / messages * 1e6,
        "server_load": measured.server_cpu_s / seconds,
        "publisher_load": measured.publisher_cpu_s / seconds,
        "subscriber_load": measured.subscriber_cpu_s / seconds,
        "all_load": (measured.server_cpu_s + measured.clients_cpu_s) / seconds,
        "other_load": measured.other_load,
        **{name: max(one[name] for one in latencies) for name in (latencies[0] if latencies else ())},
        "server_mib": measured.server_bytes / 2**20,
        **more,
    }


_BUSY = 0.8         # of a core, or of all


def bound(figures, durability, cores):
    """Return in a word what held a run up: who used its core up, or, if nobody did, what was waited for."""
    if "all_load" not in figures:
        return ""
    loads = {"server": figures["server_load"], "publisher": figures["publisher_load"],
             "subscriber": figures["subscriber_load"]}
    most = max(loads, key=loads.__getitem__)
    if figures["all_load"] >= _BUSY * cores:
        return f"all cores ({most} most)"
    if loads[most] >= _BUSY:
        return most
    if loads["server"] + max(loads["publisher"], loads["subscriber"]) >= _BUSY:
        return "server and client"
    return "disk" if durability.startswith("fsync") and durability != EVERY_SECOND else "waiting for each other"


def by_minute(rounds):
    """Yield the name of each case that was watched by the minute, and of its last round the rows of a table."""
    for name, figures in rounds[-1].items():
        if "minutes" in figures:
            yield name, [["minute", "messages/s", "server us/msg", "file MiB", "server MiB", "others' load"], *(
                [str(number), f"{one['rate']:,.0f}", f"{one['server_us']:.2f}", f"{one['file_mib']:,.0f}",
                 f"{one['server_mib']:.1f}", f"{one['other_load']:.0%}"]
                for number, one in enumerate(figures["minutes"], 1))]
