"""Where the time goes, process by process: ``./tests/run benchmarks profile [W2 W3 W4 W5]``, as reStructuredText.

Each load is played four times: with nobody looking, under py-spy, under perf, and with its system calls counted. All
figures are for one message (W4: one delivery). A stage's time is what passed in it, the wait for the disk or for
Python's lock included; by kind it is processor time, perf's shares of what was counted without perf.
``TREE=/another/checkout ./tests/run benchmarks profile`` measures that one by the same procedure.
"""

import argparse
from collections import Counter
from contextlib import ExitStack
from functools import partial

from . import actors
from .payloads import BATCH, BYTES, Runs
from .samples import HERTZ, counting, sampling_kinds, sampling_stages, threads_of
from .stage import Missing, Stage

_CALLERS = 64
_LEAST_SHARE = 0.02     # of a process's time: what is less is one line together
_WORD = {"python": "Python", "ZMQbg/IO/0": "ZeroMQ's"}


class Load:
    """*setting* starts the clients in a stage: it returns ``(publishers, subscribers, deliveries)``.

    Of its *subscribers* one is looked at, and what is seen is taken that many times.
    """

    def __init__(self, title, setting, subscribers=1):
        self.title = title
        self.setting = setting
        self.subscribers = subscribers


def _singles(stage, scale):
    messages = 60_000 // scale // _CALLERS * _CALLERS
    return [stage.start(actors.publish_singles, stage.serve(), 0, _CALLERS, messages)], [], messages


def _batches(stage, scale):
    batches = 2500 // scale
    return [stage.start(actors.publish_batches, stage.serve(), 0, batches)], [], batches * BATCH


def _live(subscribers, size, stage, scale):
    where, batches = stage.serve(), 2500 // scale // subscribers * BYTES // size * (4 if size > BYTES else 1)
    readers = [stage.start(actors.subscribe, where, 1, batches * BATCH, partial(Runs, size))
               for _ in range(subscribers)]
    publisher = stage.start(actors.publish_batches, where, 0, batches, size)
    return [publisher], readers, subscribers * batches * BATCH


def _replay(stage, scale):
    where, batches = stage.serve(), 4000 // scale
    stage.run([stage.start(actors.publish_batches, where, 0, batches)])
    return [], [stage.start(actors.subscribe, where, 1, batches * BATCH, Runs, "earliest")], batches * BATCH


LOADS = {
    "W2": [Load("W2: single messages, 64 callers", _singles)],
    "W3": [Load("W3: batches of 1,000 x 100 bytes, 8 in flight", _batches)],
    "W4": [Load("W4: batches of 1,000 x 100 bytes to 1 subscriber", partial(_live, 1, BYTES)),
           Load("W4: batches of 1,000 x 100 bytes to 4 subscribers", partial(_live, 4, BYTES), 4),
           Load("W4: batches of 1,000 x 1 KiB to 4 subscribers", partial(_live, 4, 1024), 4)],
    "W5": [Load("W5: 1 subscriber reads batches of 1,000 x 100 bytes that are stored", _replay)],
}


def main(arguments):
    parser = argparse.ArgumentParser(prog="tests/run benchmarks profile", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loads", nargs="*", metavar="LOAD", help=f"any of {', '.join(LOADS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages: to see that it runs")
    options = parser.parse_args(arguments)
    unknown = set(options.loads) - set(LOADS)
    if unknown:
        parser.error(f"no such load: {', '.join(sorted(unknown))}")
    try:
        for name in options.loads or LOADS:
            for load in LOADS[name]:
                print("\n".join(profile(load, 10 if options.quick else 1)), flush=True)
    except Missing as error:
        parser.exit(1, f"{error}\n")


def profile(load, scale=1):
    """Return the lines that say what *load* costs each of its processes."""
    seconds, messages, threads = _counted(load, scale)
    stages, kinds, calls = (_looked_at(load, scale, look) for look in (sampling_stages, sampling_kinds, counting))
    lines = [load.title, "~" * len(load.title), "", f"{messages / seconds:,.0f} a second.", ""]
    for role in threads:
        share = (load.subscribers if role == "subscriber" else 1) / messages
        rows = [(f"{_WORD.get(thread, thread)} thread", f"{us * share:.3f}", f"{switches * share:.4f}")
                for thread, us, switches in threads[role]]
        lines += table((role, "processor us", "context switches"), rows)
        lines += table((f"{role}, by stage (py-spy)", "us"),
                       _shares(stages[role], sum(stages[role].values()) * share / HERTZ * 1e6))
        lines += table((f"{role}, by kind (perf)", "us"),
                       _shares(kinds[role], sum(us for _, us, _ in threads[role]) * share))
        lines += table((f"{role}, system calls", "a message"),
                       [(name, f"{count * share:.4f}") for name, count in calls[role].most_common(6)])
    return lines


def _cast(stage, publishers, subscribers):
    """Return whom to look at, by role: one of each."""
    return {"server": stage.server, **({"publisher": publishers[0]} if publishers else {}),
            **({"subscriber": subscribers[0]} if subscribers else {})}


def _counted(load, scale):
    """Play *load* with nobody looking; return its seconds, messages, and what each thread used, by role."""
    with Stage() as stage:
        publishers, subscribers, messages = load.setting(stage, scale)
        cast = _cast(stage, publishers, subscribers)
        before = {role: threads_of(one.pid) for role, one in cast.items()}
        measured = stage.run(publishers or subscribers, subscribers if publishers else ())
        used = {role: _used(before[role], threads_of(one.pid)) for role, one in cast.items()}
    return measured.seconds, messages, used


def _used(before, after):
    """Return ``(name, processor microseconds, context switches)`` of each thread that was busy, the busiest first."""
    rows = [(name, (used - before.get(id, ("", 0.0, 0))[1]) * 1e6, switches - before.get(id, ("", 0.0, 0))[2])
            for id, (name, used, switches) in after.items()]
    most = max(us for _, us, _ in rows)
    return sorted((one for one in rows if one[1] > _LEAST_SHARE * most), key=lambda one: -one[1])


def _looked_at(load, scale, look):
    """Play *load* while *look* looks at one process of each role; return what it has seen, by role."""
    with Stage() as stage:
        publishers, subscribers, _ = load.setting(stage, scale)
        with ExitStack() as stack:
            seen = {role: stack.enter_context(look(one.pid, stage.folder))
                    for role, one in _cast(stage, publishers, subscribers).items()}
            stage.run(publishers or subscribers, subscribers if publishers else ())
    return seen


def _shares(found, total_us):
    """Return rows of *found*, a Counter of samples, as shares of *total_us*; what is little is one row."""
    whole = sum(found.values()) or 1
    large = Counter({name: count for name, count in found.items() if count >= _LEAST_SHARE * whole})
    rows = [(": ".join(name) if isinstance(name, tuple) else name, f"{count / whole * total_us:.3f}")
            for name, count in large.most_common()]
    little = whole - sum(large.values())
    return [*rows, ("less than 2 % each", f"{little / whole * total_us:.3f}")] if little else rows


def table(heading, rows):
    """Return a simple table as lines of reStructuredText."""
    widths = [max(map(len, column)) for column in zip(heading, *rows)]
    edge = "  ".join("=" * width for width in widths)
    body = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (heading, *rows)]
    return [edge, body[0], edge, *body[1:], edge, ""]
