"""Fan-out to 16 subscribers by one process and by more: what each of them has to do, and what that would allow.

Published at a steady rate that all can keep up with, to receivers that decode nothing. ``ceiling`` is the rate at which
the busiest thread of all the server's processes would be busy all the time, if each had a core: what more cores
would give, which a machine with few of them, shared by all processes, cannot show.
"""

from functools import partial
from pathlib import Path
from time import monotonic, sleep

from .. import drains
from ..payloads import BATCH
from ..peers import spread
from ..stage import Failed, ask
from ..workload import FSYNC, Case, Ratio, Workload, figures

_BATCHES = 1_000
_RATE = 120         # a second
_SUBSCRIBERS = 16
_WORKERS = [0, 1, 2, 3]
_LATE_S = 30


def _fan_out(workers, stage, scale):
    endpoint, batches = stage.serve(*(("--workers", str(workers)) if workers else ())), scale.of(_BATCHES)
    pids = [stage.server.pid, *_pids(endpoint, workers)]
    readers = [stage.start(drains.drain, endpoint, share, batches * BATCH) for share in spread(_SUBSCRIBERS, 2)]
    publisher = stage.start(drains.publish_packed, endpoint, batches, _RATE)
    before = [_threads_s(pid) for pid in pids]
    measured = stage.run([publisher], readers)
    used = [{thread: after - was.get(thread, 0.0) for thread, after in _threads_s(pid).items()}
            for pid, was in zip(pids, before)]
    deliveries = _SUBSCRIBERS * batches * BATCH
    busiest_s = max(max(one.values()) for one in used)
    return figures(measured, deliveries, ceiling=deliveries / busiest_s, busiest_us=busiest_s / deliveries * 1e6,
                   writer_us=sum(used[0].values()) / deliveries * 1e6,
                   all_us=sum(sum(one.values()) for one in used) / deliveries * 1e6)


def _pids(endpoint, workers):
    ends = monotonic() + _LATE_S
    while len(found := ask(endpoint, "about").get("workers", ())) < workers:
        if monotonic() > ends:
            raise Failed(f"{len(found)} workers of {workers}")
        sleep(0.05)
    return [one["pid"] for one in found]


def _threads_s(pid):
    """Return the processor seconds that each thread of a process has used."""
    return {int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9
            for task in Path(f"/proc/{pid}/task").iterdir()}


def _name(workers):
    return f"{workers} worker{'' if workers == 1 else 's'}" if workers else "one process"


WORKLOAD = Workload(
    "scale", "Batches of 1,000 to 16 subscribers that decode nothing, by the server alone and with workers",
    "deliveries/s",
    [Case(_name(workers), FSYNC, partial(_fan_out, workers)) for workers in _WORKERS],
    [Ratio(_name(2), _name(1), "1.7", "ceiling"),
     *(Ratio(_name(workers), _name(fewer), "", figure) for workers, fewer, figure in (
         (1, 0, "ceiling"), (3, 1, "ceiling"), (1, 0, "all_us"), (2, 1, "all_us"), (3, 1, "all_us")))],
)
