"""Start-up with 10,000,000 messages in the log: from starting the process to its first answer.

A start after a crash, kill -9, finds what the last checkpoint does not know; a start after an orderly end need not.
The slowest of three starts counts. *Open* is the store alone, in a process that has loaded everything. The rate is
messages that are there when it is up, over the time until then.
"""

import time
from functools import partial

from .. import logs
from ..payloads import BATCH
from ..stage import Failed, ask
from ..workload import LOG, Case, Workload

_MESSAGES = 10_000_000
_STARTS = 3


def _start(topics, length, crashed, stage, scale):
    messages = scale.of(_MESSAGES)
    stage.run([stage.start(logs.fill, stage.serve(), messages, topics, length)])
    restart_s = max(_restart(stage.server, messages, crashed) for _ in range(_STARTS))
    stage.server.end()
    opened = stage.start(logs.open_alone, f"{stage.folder}/log", messages)
    return {"rate": messages / restart_s, "restart_s": restart_s, "open_s": opened.facts["open_s"]}


def _restart(server, messages, crashed):
    (server.crash if crashed else server.restart)()
    if ask(server.endpoint, "about")["next"] < messages:
        raise Failed("the server has lost messages")
    return time.perf_counter() - server.started_at


WORKLOAD = Workload(
    "startup", "Start with 10,000,000 messages of 100 bytes in the log", "messages/s",
    [Case(f"{how}, after {end}", LOG, partial(_start, topics, length, crashed), "< 2 s")
     for topics, length, how in ((1, BATCH, "batches of 1,000"), (1_000, 10, "batches of 10 on 1,000 topics"))
     for crashed, end in ((False, "an orderly end"), (True, "kill -9"))],
    [],
    "W9s",
)
