"""Much pending: does it slow acknowledging down, what does it weigh, how long does a start after a crash take?

A consumer holds 10,000 or 1,000,000 messages and is given a new one for each that it settles, or 1,000 consumers
with a member each hold 100. *Bytes each* is the server's private memory for each pending message, or for each
consumer with its member and all that it holds. A restart is a kill -9, the start of a new process, and its
answer with the right numbers.
"""

import time
from functools import partial

from .. import holders
from ..stage import Failed, ask, cpu_s, private_bytes, written_bytes
from ..workload import FSYNC, Case, Ratio, Workload, figures

_FEW, _MANY = 10_000, 1_000_000
_RANGES, _OFFSETS = 1_000_000, 200_000
_EACH = 100_000                     # given back by a call of its own
_CONSUMERS, _HELD = 1_000, 100
_IDLE_S = 5
_QUIET_S = 20


def _acks(pending, messages, how, stage, scale):
    pending, messages = scale.of(pending), scale.of(messages)
    holders.fill(stage.serve(), pending + messages)
    measured, more = _play(stage, pending, holders.acknowledge, pending, messages, how)
    return _figures(stage, measured, more, pending + messages)


def _every_second(stage, scale):
    pending = scale.of(_MANY)
    holders.fill(stage.serve(), pending)
    before = private_bytes(stage.server)
    measured, more = _play(stage, pending, holders.acknowledge_every_second, pending)
    more["held_bytes"] = (measured.server_bytes - before) / (pending / 2)
    return _figures(stage, measured, more, pending)


def _give_back(stage, scale):
    pending = scale.of(_EACH)
    holders.fill(stage.serve(), pending)
    before = private_bytes(stage.server)
    measured, more = _play(stage, pending, holders.give_back, pending)
    more["held_bytes"] = (measured.server_bytes - before) / pending
    return _figures(stage, measured, more, pending, given_back=True)


def _in_turn(consumers, held, stage, scale):
    held = scale.of(held)
    holders.fill_many(stage.serve(), consumers, held)
    measured, more = _play(stage, consumers, holders.acknowledge_in_turn, consumers, held, held // 2)
    return _figures(stage, measured, more, consumers * held)


def _play(stage, many, actor, *args):
    """Return what was measured of *actor*, and figures of the server besides: its memory is from before the start."""
    before = private_bytes(stage.server)
    cast = stage.start(actor, stage.server.endpoint, *args)
    more = {"held_bytes": (private_bytes(stage.server) - before) / many, "idle_load": _idle_load(stage.server)}
    written = written_bytes(stage.server)
    measured = stage.run([cast])
    more["disk_bytes"] = (written_bytes(stage.server) - written) / measured.results[0]["messages"]
    more["hub_lag_ms"] = ask(stage.server.endpoint, "stats")["server"]["hub_lag_us"]["max"] / 1e3
    return measured, more


def _figures(stage, measured, more, published, given_back=False):
    settled = measured.results[0]["messages"]
    pending = published if given_back else published - settled
    return figures(measured, settled, **more, restart_s=_restart(stage, pending))


def _idle_load(server):
    before = cpu_s(server.pid)
    time.sleep(_IDLE_S)
    return (cpu_s(server.pid) - before) / _IDLE_S


def _restart(stage, pending):
    """Return how long the server takes to come back from a crash and know of so many *pending*."""
    ends = time.monotonic() + _QUIET_S
    while _pending(stage) != pending and time.monotonic() < ends:
        time.sleep(0.1)     # what is to come instead of the last that was settled is not handed out yet
    began = time.perf_counter()
    stage.server.crash()
    found = _pending(stage)
    if found != pending:
        raise Failed(f"{found} messages are pending after a restart, not {pending}")
    return time.perf_counter() - began


def _pending(stage):
    return ask(stage.server.endpoint, "stats")["consumers"]["pending"]


WORKLOAD = Workload(
    "pending", "Settle while much is pending, and be given as much again", "messages/s",
    [
        Case("10,000, by ranges", FSYNC, partial(_acks, _FEW, _RANGES, "ranges")),
        Case("1,000,000, by ranges", FSYNC, partial(_acks, _MANY, _RANGES, "ranges"), "100,000"),
        Case("10,000, by offsets", FSYNC, partial(_acks, _FEW, _OFFSETS, "offsets")),
        Case("1,000,000, by offsets", FSYNC, partial(_acks, _MANY, _OFFSETS, "offsets"), "100,000"),
        Case("1,000,000, every second", FSYNC, _every_second),
        Case("100,000, nack each", FSYNC, _give_back),
        Case("1 consumer, ack each", FSYNC, partial(_in_turn, 1, _CONSUMERS * _HELD)),
        Case("1,000 consumers, ack each", FSYNC, partial(_in_turn, _CONSUMERS, _HELD)),
    ],
    [
        Ratio("1,000,000, by ranges", "10,000, by ranges", "1"),
        Ratio("1,000,000, by offsets", "10,000, by offsets", "1"),
        Ratio("1,000 consumers, ack each", "1 consumer, ack each"),
    ],
)
