"""10,000 subscriptions on 1,000 topics, single messages at a steady rate: latency, heartbeats, memory.

The subscriptions share 10 connections of one process. *Bytes each* is the server's private memory for each
subscription, from before the first has connected to when all have been greeted. *Beats late* is by how much the
latest of all heartbeats came after the interval that the server has promised, as the receiver sees it. The goals are
p99 under 50 ms, no heartbeat late, and less than 12 KB each.
"""

from functools import partial

from .. import throng
from ..stage import ask, private_bytes
from ..workload import FSYNC, Case, Workload, figures

_SUBSCRIPTIONS, _CONNECTIONS, _TOPICS = 10_000, 10, 1_000
_SECONDS = 20


def _ours(rate, stage, scale):
    endpoint = stage.serve()
    seconds = max(scale.of(_SECONDS), 7)        # at least one heartbeat
    messages = rate * seconds
    before = private_bytes(stage.server)
    readers = stage.start(throng.read_dues, endpoint, _CONNECTIONS, _SUBSCRIPTIONS, _TOPICS, messages)
    held_bytes = (private_bytes(stage.server) - before) / _SUBSCRIPTIONS
    publisher = stage.start(throng.publish_dues, endpoint, _TOPICS, rate, messages)
    measured = stage.run([publisher], [readers])
    result = measured.results[1]
    return figures(measured, result["deliveries"], **result["delays"], late_ms=result["late_ms"],
                   held_bytes=held_bytes, joined_s=readers.facts["joined_s"],
                   hub_lag_ms=ask(endpoint, "stats")["server"]["hub_lag_us"]["max"] / 1e3)


def _name(rate):
    return f"{rate:,} messages/s, each to {_SUBSCRIPTIONS // _TOPICS}"


WORKLOAD = Workload(
    "throng", "10,000 subscriptions on 1,000 topics at a steady rate, from when a message was due", "deliveries/s",
    [Case(_name(rate), FSYNC, partial(_ours, rate), "p99 < 50 ms") for rate in (1_000, 5_000, 10_000)],
    [],
    "W9",
)
