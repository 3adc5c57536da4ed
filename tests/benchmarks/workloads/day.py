"""A day in ten minutes: full speed under a retention of 200 MB, while subscribers come, go and stop.

Two subscriptions read everything; two visitors read for three seconds each, from the earliest or the newest, and
leave without a word; two more are in a process that is stopped (SIGSTOP) for half of each minute. A *minute* is a
tenth of the run: with ``--long`` a minute indeed, else 20 seconds, with ``--quick`` 2. Memory is what is private to
the server and the file is the log's, both at most within the minute; retention keeps to 200 MB in all but a step.
"""

import os
import signal
import time

from .. import day
from ..stage import private_bytes
from ..workload import FSYNC, Case, Ratio, Workload, figures

_MINUTES = 10
_MINUTE_S = 20
_LONG_MINUTE_S = 60
_LOOK_S = 0.5


def _ours(stage, scale):
    minute_s = _LONG_MINUTE_S if scale.long else 2 if scale.quick else _MINUTE_S
    seconds = _MINUTES * minute_s
    endpoint = stage.serve("--retain", ">:bytes=200M")
    readers = [stage.start(day.read_for, endpoint, 2, seconds + 1), stage.start(day.visit_for, endpoint, seconds + 1)]
    stopping = stage.start(day.read_for, endpoint, 2, seconds + 1)
    publisher = stage.start(day.publish_for, endpoint, seconds, _MINUTES)
    seen = []
    measured = stage.run([publisher], [*readers, stopping], lambda: _watch(stage, stopping, minute_s, seen))
    counts = measured.results[0]["counts"]
    minutes = [{"rate": count / minute_s, "file_mib": max(one[1] for one in part), "server_mib": max(
        one[2] for one in part)} for count, part in zip(counts, _by_minute(seen, minute_s))]
    return figures(measured, sum(counts), minutes=minutes, first_rate=minutes[0]["rate"],
                   last_rate=minutes[-1]["rate"], second_file_mib=minutes[1]["file_mib"],
                   file_mib=minutes[-1]["file_mib"], second_server_mib=minutes[1]["server_mib"],
                   last_server_mib=minutes[-1]["server_mib"],
                   subscriptions=sum(one["subscriptions"] for one in measured.results[1:]),
                   missed=sum(one["missed"] for one in measured.results[1:]))


def _watch(stage, stopping, minute_s, seen):
    """Look at file and memory for all of the run, into *seen*; stop a process for half of each minute meanwhile."""
    began, stopped = time.perf_counter(), False
    while (since_s := time.perf_counter() - began) < _MINUTES * minute_s:
        stops = since_s % minute_s > minute_s / 2
        if stops != stopped:
            os.kill(stopping.pid, signal.SIGSTOP if stops else signal.SIGCONT)
            stopped = stops
        seen.append((since_s, os.path.getsize(f"{stage.folder}/log/data.mdb") / 2**20,
                     private_bytes(stage.server) / 2**20))
        time.sleep(_LOOK_S)
    os.kill(stopping.pid, signal.SIGCONT)


def _by_minute(seen, minute_s):
    return [[one for one in seen if int(one[0] / minute_s) == minute] for minute in range(_MINUTES)]


_NAME = "zstreampub"

WORKLOAD = Workload(
    "day", "A day in ten minutes: full speed under a retention of 200 MB, while subscribers come, go and stop",
    "messages/s",
    [Case(_NAME, FSYNC, _ours)],
    [
        Ratio(_NAME, _NAME, "0.95", "last_rate", "first_rate"),
        Ratio(_NAME, _NAME, "< 1.05", "file_mib", "second_file_mib"),
        Ratio(_NAME, _NAME, "< 1.1", "last_server_mib", "second_server_mib"),
    ],
    "W10",
)
