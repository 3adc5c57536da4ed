"""Fan-out to 16 subscribers by one process and by more, as on a machine that has a core for each thread of theirs.

Such a machine is seldom at hand, and the subscribers need most of it. So each process of the server is given a slow
processor, see slowed.py, which leaves the real ones to the receivers, that decode nothing. ``rate`` is what comes of
it; on processors that are not slow it would be ``fast`` if nothing else was in the way. In the cases of fan-out only,
the writer is not slow: else it soon is what they wait for. ``writer_us``, ``all_us``: what the writer and all of
the server's processes used.
"""

from functools import partial
from time import monotonic, sleep

from .. import drains
from ..payloads import BATCH
from ..slowed import PERIOD_S, SLOT_S, Slowed
from ..stage import Failed, ask, cpu_s
from ..workload import FSYNC, Case, Ratio, Workload, figures

_BATCHES = 600
_SUBSCRIBERS = 16
_WORKERS = [0, 1, 2, 3]
_QUEUES = ("--queue-messages", "100000", "--queue-bytes", "16M")    # or all would be behind while a process is stopped
_LATE_S = 30


def _fan_out(workers, only, stage, scale):
    places = ("--worker-bind", "tcp://127.0.0.1:0") * workers       # the ports beside the server's may be taken
    endpoint, batches = stage.serve("--workers", str(workers), *places, *_QUEUES), scale.of(_BATCHES)
    pids = [stage.server.pid, *_pids(endpoint, workers)]
    client = stage.start(drains.publish_and_drain, endpoint, _SUBSCRIBERS, batches)
    before = [cpu_s(pid) for pid in pids]
    with Slowed(pids[only:]):
        measured = stage.run([client])
    used = [cpu_s(pid) - was for pid, was in zip(pids, before)]
    deliveries = _SUBSCRIBERS * batches * BATCH
    return figures(measured, deliveries, fast=deliveries / measured.seconds * PERIOD_S / SLOT_S,
                   writer_us=used[0] / deliveries * 1e6, all_us=sum(used) / deliveries * 1e6)


def _pids(endpoint, workers):
    ends = monotonic() + _LATE_S
    while len(found := ask(endpoint, "about").get("workers", ())) < workers:
        if monotonic() > ends:
            raise Failed(f"{len(found)} workers of {workers}")
        sleep(0.05)
    return [one["pid"] for one in found]


def _name(workers, only=False):
    name = f"{workers} worker{'' if workers == 1 else 's'}" if workers else "one process"
    return f"{name}, fan-out only" if only else name


WORKLOAD = Workload(
    "scale", "Batches of 1,000 to 16 subscribers that decode nothing; each process of the server on slow processors",
    "deliveries/s",
    [Case(_name(workers, only), FSYNC, partial(_fan_out, workers, only))
     for only in (False, True) for workers in _WORKERS[only:]],
    [*(Ratio(_name(workers), _name(0)) for workers in _WORKERS[1:]),
     Ratio(_name(2, True), _name(1, True), "1.7"), Ratio(_name(3, True), _name(1, True)),
     *(Ratio(_name(workers), _name(0), "", "all_us") for workers in _WORKERS[1:])],
)
