"""``zstreampub bench``: how fast is this server, from here, and does everything arrive?"""

import sys
from contextlib import contextmanager, suppress
from time import monotonic

import click

from ..errors import ZStreamPubError
from . import exits
from .encode import to_json
from .options import BYTES, SECONDS, Whole, client_options, command, connected, end_on_sigterm, option
from .screen import Out, note

_NAMES = ["publish", "fan-out", "replay", "consume", "latency"]
_LEAST_BYTES = 20
_PAUSE_S = 0.1      # of the progress bar: how often it moves
_GOODBYE_S = 2.0    # at the end: how long the server is asked what is left in it
_WIDTH = 78


@command("  zstreampub bench\n"
         "  zstreampub bench publish --batch 1 --in-flight 64\n"
         "  zstreampub bench fan-out --subscribers 16 --size 1K --messages 1000000\n"
         "  zstreampub bench latency --rate 1000 --subscribers 10 --seconds 30s --json >> latencies.jsonl")
@click.argument("loads", nargs=-1, metavar="[LOAD]...", type=click.Choice(_NAMES))
@option("--messages", type=Whole(1), default=200_000, metavar="N", help="Most messages that a load publishes.")
@option("--seconds", type=SECONDS, default=5.0, metavar="SECONDS", help="Longest that a load publishes.")
@option("--size", type=BYTES, default=100, metavar="BYTES", help=f"Bytes of a payload, at least {_LEAST_BYTES}.")
@option("--batch", type=Whole(1), default=100, metavar="N", help="Messages of one call; 1: a call for each message.")
@option("--in-flight", type=Whole(1, 10_000), default=8, metavar="N", help="Calls that wait for their answers.")
@option("--subscribers", type=Whole(1, 1000), default=4, metavar="N", help="Of fan-out and latency, a connection each.")
@option("--rate", type=click.FloatRange(min=0.1, max=1_000_000), default=1000.0, metavar="PER_SECOND",
        help="Messages a second of latency.")
@option("--json", "as_json", is_flag=True, help="A JSON line for each load, also on a terminal.")
@client_options
def bench(loads, address, timeout_s, as_json, **plan):
    """Measure a running server with LOADs (default: all five), and check that every message arrives.

    \b
    publish  batches, --in-flight calls at a time; how long each answer took: then it is on the server's disk
    fan-out  the same with --subscribers that read it at once; the rate is that of all deliveries together
    replay   a new subscriber reads from the log what publish has stored
    consume  a durable consumer: every message taken and acknowledged, until that is on disk
    latency  at a steady --rate: from the time when a message was due until a subscriber has it, decoded

    All of it is done by this one process, so the figures are those of a Python program and its machine as much as of
    the server; for more load start several. Where a load is slower than you expect: see what 'top' shows for both
    processes. Neither busy? Then it is the disk (commit_us in 'zstreampub stats') or the network: put more in flight,
    or in a batch.

    It publishes under bench.<random>.> and its messages stay in the log until retention removes them
    ('zstreampub serve --retain bench.>:age=1h ...' does); how many is told at the end. Its consumer is deleted.
    Exit code 1: a message was lost, repeated, changed or out of order. Do not run it where nobody may be slowed down.
    """
    from .benches.loads import LOADS, Bench, Plan  # loads gevent

    if plan["size"] < _LEAST_BYTES:
        raise click.UsageError(f"--size is at least {_LEAST_BYTES} bytes: each message carries its number and time.")
    out, faulty = Out(), False
    with connected(address, timeout_s) as client, _progress() as bar:
        end_on_sigterm()
        client.about()      # is there a server?
        run = Bench(_connector(address, timeout_s), Plan(**plan, timeout_s=timeout_s), bar.tick)
        try:
            for name in loads or _NAMES:
                bar.begin(name)
                result = LOADS[name](run)
                bar.begin(None)
                faulty = faulty or bool(result.faults)
                _show(result, plan["size"], out, as_json or not out.is_terminal)
        finally:
            bar.begin(None)
            _tell_left(client, run.prefix)
    return exits.REFUSED if faulty else exits.OK


def _connector(address, timeout_s):
    from ..client import Client

    return lambda: Client(address, timeout_s=timeout_s)


def _show(result, size, out, as_json):
    for fault in result.faults:
        note(f"{result.load}: {fault}")
    for line in [to_json(facts(result, size))] if as_json else lines(result, size):
        out.write(line)
    out.flush()


def facts(result, size):
    """Return *result* as a map for JSON."""
    delays = {} if result.delays is None else {**result.delays.summary(), "histogram_us": result.delays.histogram()}
    return {"load": result.load, "unit": f"{result.what}/s", "rate": round(result.rate, 1),
            "count": result.number, "seconds": round(result.seconds, 6), "payload_bytes": size,
            "bytes_per_s": round(result.rate * size), **delays, "faults": result.faults}


def lines(result, size):
    """Yield *result* as lines for people."""
    from .benches.delays import bars, duration

    many = len(result.faults)
    checked = f"{many} FAULT{'S' if many > 1 else ''}" if many else "every message checked"
    yield (f"{result.load}: {result.rate:,.0f} {result.what}/s, {result.rate * size / 1e6:,.1f} MB/s "
           f"({result.number:,} in {result.seconds:.2f} s), {checked}")
    if result.delays is not None and len(result.delays):
        summary = result.delays.summary()
        yield "  " + ", ".join(f"{_share(name)} {duration(us)}" for name, us in summary.items())
        yield from bars(result.delays.histogram(), _WIDTH)


def _share(name):
    return {"p999_us": "p99.9", "max_us": "longest"}.get(name, name.removesuffix("_us"))


def _tell_left(client, prefix):
    """Say what stays in the log; nothing where the server is gone."""
    with suppress(ZStreamPubError):
        topics = client.call("topics", f"{prefix}.>", timeout_s=_GOODBYE_S)
        messages, size = (sum(topic[name] for topic in topics) for name in ("messages", "bytes"))
        note(f"left in the log: {messages:,} messages, {size / 1e6:,.1f} MB, topics {prefix}.>, until retention "
             "removes them")


class _Bar:
    """A bar of the load that runs; *progress* is rich's, or None where nobody looks."""

    def __init__(self, progress):
        self._progress = progress
        self._task = None
        self._moved = 0.0

    def begin(self, name):
        """Show the load *name*; None shows nothing."""
        if self._progress is None:
            return
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = None if name is None else self._progress.add_task(name, total=None)
        self._progress.refresh()

    def tick(self, done, of):
        """Say how far it is; called often, shown now and then."""
        if self._task is not None and monotonic() - self._moved > _PAUSE_S:
            self._moved = monotonic()
            self._progress.update(self._task, completed=done, total=of)


@contextmanager
def _progress():
    """Give a :class:`_Bar` on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield _Bar(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
                  console=Console(stderr=True), transient=True, refresh_per_second=1 / _PAUSE_S) as progress:
        yield _Bar(progress)
