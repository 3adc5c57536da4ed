"""Publish batches of 1,000 messages; nobody subscribes.

A batch is one call with a list (ours, the recipe), a pipeline of 1,000 commands with 1,000 replies (Redis), 1,000
messages in flight (JetStream), a transaction of 1,000 records (LMDB), a write (a plain file), a frame (pyzmq).
"""

from functools import partial

from .. import actors, raw
from ..payloads import BATCH, BYTES, WRAP
from ..peers import OURS, PEERS, RECIPE
from ..workload import FSYNC, NONE, Case, Ratio, Workload, figures

_BATCHES = 1000
_LARGE = 1024
_LARGE_SHARE = 0.4


def _batches(scale, size):
    return int(scale.of(_BATCHES) * (1 if size == BYTES else _LARGE_SHARE))


def _publish(peer, publishers, publish, size, stage, scale):
    where, share = peer.start(stage), max(int(_batches(scale, size) * peer.published), 1)
    cast = [stage.start(publish, where, source, share, *(() if size == BYTES else (size,)))
            for source in range(publishers)]
    measured = stage.run(cast)
    messages = publishers * share * BATCH
    if size == BYTES:       # the check of every message knows only those
        peer.check(stage, where, messages, WRAP)
    return figures(measured, messages)


def _zmq(publishers, size, stage, scale):
    endpoint, share = raw.start_echo(stage), _batches(scale, size)
    cast = [stage.start(raw.call_batches, endpoint, source, share, size) for source in range(publishers)]
    return figures(stage.run(cast), publishers * share * BATCH)


def _alone(actor, size, stage, scale):
    messages = _batches(scale, size) * BATCH
    return figures(stage.run([stage.start(actor, stage.folder, messages, size)]), messages)


def _case(peer, publishers=1, publish=None, size=BYTES, how=""):
    name = peer.name + (f", {publishers} publishers" if publishers > 1 else "") + how + _of(size)
    return Case(name, peer.durability, partial(_publish, peer, publishers, publish or peer.publish_batches, size))


def _of(size):
    return "" if size == BYTES else ", 1 KiB"


def _cases(size):
    of = _of(size)
    return [
        *(_case(peer, size=size) for peer in PEERS),
        _case(OURS, publish=actors.publish_batches_in_turn, size=size, how=", one in flight"),
        Case(f"raw LMDB, a record for each message{of}", FSYNC, partial(_alone, raw.append_batches, size)),
        Case(f"raw write + fdatasync{of}", FSYNC, partial(_alone, raw.write_batches, size)),
        Case(f"raw pyzmq{of}", NONE, partial(_zmq, 1, size)),
    ]


def _ratios(size):
    of = _of(size)
    return [
        Ratio(f"zstreampub{of}", f"Redis always{of}", "10"),
        Ratio(f"zstreampub, one in flight{of}", f"Redis always{of}", "10"),
        Ratio(f"zstreampub{of}", f"JetStream{of}", "10"),
        Ratio(f"zstreampub{of}", f"raw LMDB, a record for each message{of}", "1.3"),
        Ratio(f"zstreampub, one in flight{of}", f"raw LMDB, a record for each message{of}", "1.3"),
        Ratio(f"zstreampub{of}", f"zerorpc recipe{of}"),
        Ratio(f"zstreampub{of}", f"zerorpc recipe + LMDB{of}"),
        Ratio(f"zstreampub{of}", f"raw write + fdatasync{of}"),
        Ratio(f"zstreampub{of}", f"raw pyzmq{of}"),
    ]


WORKLOAD = Workload(
    "batches", "Publish batches of 1,000, of 100 bytes and of 1 KiB", "messages/s",
    [
        *_cases(BYTES),
        _case(OURS, 3),
        _case(OURS, 3, actors.publish_batches_lean, how=", lean"),
        _case(RECIPE, 3),
        Case("raw pyzmq, 3 senders", NONE, partial(_zmq, 3, BYTES)),
        *_cases(_LARGE),
    ],
    [
        *_ratios(BYTES),
        Ratio("zstreampub, 3 publishers", "zerorpc recipe, 3 publishers"),
        Ratio("zstreampub, 3 publishers", "raw pyzmq, 3 senders"),
        *_ratios(_LARGE),
    ],
    "W3",
)
