"""What a workload is: cases that are measured alternately, and what is compared with what."""

from collections.abc import Callable
from typing import NamedTuple

FSYNC = "fsync before the answer"
FSYNC_EACH = "fsync, one each"
NONE = "none"
LOG = "read from the log"


class Case(NamedTuple):
    """One peer under one load. ``run(stage, scale)`` returns figures: a dict of numbers, ``rate`` among them."""

    name: str
    durability: str
    run: Callable
    goal: str = ""


class Ratio(NamedTuple):
    """*figure* of case *of* over *base* (the same, if empty) of case *over*, taken within each round."""

    of: str
    over: str
    goal: str = ""
    figure: str = "rate"
    base: str = ""


class Workload(NamedTuple):
    """``name`` chooses it on the command line; ``unit`` says what ``rate`` counts."""

    name: str
    title: str
    unit: str
    cases: list
    ratios: list


class Scale(NamedTuple):
    """How much is done: ``of(n)`` is the share of *n* in this run."""

    quick: bool

    def of(self, count):
        return max(count // 10, 1) if self.quick else count


def figures(measured, messages, **more):
    """Return the figures of a run in which *messages* were published or delivered."""
    latencies = [one["latencies"] for one in measured.results if "latencies" in one]
    return {
        "rate": messages / measured.seconds,
        "server_us": measured.server_cpu_s / messages * 1e6,
        "clients_us": measured.clients_cpu_s / messages * 1e6,
        "server_load": measured.server_cpu_s / measured.seconds,
        **{name: max(one[name] for one in latencies) for name in (latencies[0] if latencies else ())},
        "server_mib": measured.server_bytes / 2**20,
        **more,
    }
