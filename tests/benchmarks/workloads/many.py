"""1,000 subscriptions of different speeds on one server, 100 of which stop reading for a while.

800 fast ones read single messages published at a steady rate; 100 read bulk with pauses, some of them
too slow for it; 100 read the bulk as it comes, until their process is stopped. Latency is from the time when
a message was due to its delivery in the fast process.
"""

import os
import signal
import time
from functools import partial
from itertools import pairwise

from .. import crowd
from ..actors import percentiles
from ..stage import private_bytes
from ..workload import FSYNC, Case, Ratio, Workload, figures

_FAST, _SLOW, _BULK = 800, 100, 100
_WARM_S, _PHASE_S = 2, 8        # two missed heartbeats, 10 s, would end the stopped ones


def _ours(stops, stage, scale):
    endpoint, phase_s = stage.serve(), 3 if scale.quick else _PHASE_S
    seconds = _WARM_S + 2 * phase_s + 1
    fast = stage.start(crowd.read_ticks, endpoint, _FAST, seconds)
    slow = stage.start(crowd.read_bulk_slowly, endpoint, _SLOW, seconds)
    bulk = stage.start(crowd.read_bulk, endpoint, _BULK, seconds)
    publisher = stage.start(crowd.publish_steadily, endpoint, seconds)
    marks, sizes = [], []

    def meanwhile():
        time.sleep(_WARM_S)
        for stopped in (False, stops):
            if stopped:
                os.kill(bulk.pid, signal.SIGSTOP)
            marks.append(time.perf_counter())
            for _ in range(phase_s * 5):
                time.sleep(0.2)
                sizes.append(private_bytes(stage.server))
        marks.append(time.perf_counter())
        os.kill(bulk.pid, signal.SIGCONT)

    measured = stage.run([publisher], [fast, slow, bulk], meanwhile)
    seen = measured.results[1]["seen"]
    before, during = [percentiles([latency for due, latency in seen if since <= due < until])
                      for since, until in pairwise(marks)]
    return figures(measured, len(seen), **{
        "p50_us": before["p50_us"], "p99_us": before["p99_us"],
        "later_p50_us": during["p50_us"], "later_p99_us": during["p99_us"],
        "server_mib": max(sizes) / 2**20})


WORKLOAD = Workload(
    "many", "1,000 subscriptions at a steady rate: latency before, and later while 100 have stopped",
    "deliveries/s to the 800 fast ones",
    [
        Case("zstreampub, 100 stop reading", FSYNC, partial(_ours, True), "< 150 MiB"),
        Case("zstreampub, nobody stops", FSYNC, partial(_ours, False)),
    ],
    [
        Ratio("zstreampub, 100 stop reading", "zstreampub, nobody stops", "1", "later_p99_us"),
        Ratio("zstreampub, 100 stop reading", "zstreampub, 100 stop reading", "1", "later_p99_us", "p99_us"),
    ],
)
