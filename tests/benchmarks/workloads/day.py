"""A day in ten minutes: full speed under a retention of 200 MB, while subscribers come, go and stop.

Two subscriptions read everything; two visitors read for three seconds each, from the earliest or the newest, and
leave without a word; two more are in a process that is stopped (SIGSTOP) for the first half of each minute and must
catch up then, or are told what they have missed. The log has been filled three times before the first minute, for until
then there is less to remove. A *minute* is a tenth of the run: with ``--long`` a minute indeed, else 20 seconds, with
``--quick`` 2. Memory is what is private to the server and the file is the log's, both at most within the minute.
"""

import os
import signal
import time
from typing import NamedTuple

from .. import day, logs
from ..payloads import BYTES
from ..stage import cpu_s, machine_cpu_s, private_bytes
from ..workload import FSYNC, Case, Ratio, Workload, figures

_RETAINED_BYTES = 200_000_000
_MINUTES = 10
_MINUTE_S = 20
_LONG_MINUTE_S = 60
_LOOK_S = 0.5


class _Seen(NamedTuple):
    """What there is to see of the server and the machine at a time; processor times are from the start of each."""

    since_s: float
    file_mib: float
    server_mib: float
    server_cpu_s: float
    clients_cpu_s: float
    machine_cpu_s: float


def _ours(stage, scale):
    minute_s = _LONG_MINUTE_S if scale.long else 2 if scale.quick else _MINUTE_S
    seconds = _MINUTES * minute_s
    endpoint = stage.serve("--retain", f">:bytes={_RETAINED_BYTES}")
    stage.run([stage.start(logs.fill, endpoint, 3 * _RETAINED_BYTES // BYTES)])
    readers = [stage.start(day.read_for, endpoint, 2, seconds + 1), stage.start(day.visit_for, endpoint, seconds + 1)]
    stopping = stage.start(day.read_for, endpoint, 2, seconds + 1)
    publisher = stage.start(day.publish_for, endpoint, seconds, _MINUTES)
    pids = [one.pid for one in (publisher, *readers, stopping)]
    seen = []
    measured = stage.run([publisher], [*readers, stopping], lambda: _watch(stage, stopping.pid, pids, minute_s, seen))
    counts = measured.results[0]["counts"]
    minutes = list(_by_minute(seen, counts, minute_s))
    first, second, last = minutes[0], minutes[1], minutes[-1]
    return figures(measured, sum(counts), minutes=minutes, first_rate=first["rate"], last_rate=last["rate"],
                   first_us=first["server_us"], last_us=last["server_us"],
                   second_file_mib=second["file_mib"], file_mib=last["file_mib"],
                   second_server_mib=second["server_mib"], last_server_mib=last["server_mib"],
                   subscriptions=sum(one["subscriptions"] for one in measured.results[1:]),
                   missed=sum(one["missed"] for one in measured.results[1:]))


def _watch(stage, stopping, clients, minute_s, seen):
    """Look at the server for all of the run, into *seen*; stop a process for half of each minute meanwhile."""
    began, stopped = time.perf_counter(), False
    while not seen or seen[-1].since_s < _MINUTES * minute_s:
        since_s = time.perf_counter() - began
        stops = since_s < _MINUTES * minute_s and since_s % minute_s < minute_s / 2
        if stops != stopped:
            os.kill(stopping, signal.SIGSTOP if stops else signal.SIGCONT)
            stopped = stops
        seen.append(_Seen(since_s, os.path.getsize(f"{stage.folder}/log/data.mdb") / 2**20,
                          private_bytes(stage.server) / 2**20, cpu_s(stage.server.pid), sum(map(cpu_s, clients)),
                          machine_cpu_s()))
        time.sleep(_LOOK_S)


def _by_minute(seen, counts, minute_s):
    """Yield what was seen in each minute, in which so many messages were published."""
    before = seen[0]
    for minute, count in enumerate(counts, 1):
        part = [one for one in seen if before.since_s < one.since_s <= minute * minute_s + _LOOK_S]
        used = [now - was for now, was in zip(part[-1][3:], before[3:])]
        yield {"rate": count / minute_s, "file_mib": max(one.file_mib for one in part),
               "server_mib": max(one.server_mib for one in part), "server_us": used[0] / count * 1e6,
               "other_load": max(used[2] - used[0] - used[1], 0.0) / (part[-1].since_s - before.since_s)}
        before = part[-1]


_NAME = "zstreampub"

WORKLOAD = Workload(
    "day", "A day in ten minutes: full speed under a retention of 200 MB, while subscribers come, go and stop",
    "messages/s",
    [Case(_NAME, FSYNC, _ours)],
    [
        Ratio(_NAME, _NAME, "0.95", "last_rate", "first_rate"),
        Ratio(_NAME, _NAME, "< 1.05", "last_us", "first_us"),
        Ratio(_NAME, _NAME, "< 1.05", "file_mib", "second_file_mib"),
        Ratio(_NAME, _NAME, "< 1.1", "last_server_mib", "second_server_mib"),
    ],
    "W10",
)
