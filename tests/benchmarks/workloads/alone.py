"""Publish one message at a time, each answer awaited; nobody subscribes."""

from functools import partial

from .. import raw
from ..peers import PEERS
from ..workload import FSYNC_EACH, NONE, Case, Ratio, Workload, figures

_MESSAGES = 3_000


def _publish(peer, stage, scale):
    where, messages = peer.start(stage), scale.of(_MESSAGES)
    measured = stage.run([stage.start(peer.publish_singles, where, 0, 1, messages)])
    peer.check(stage, where, messages, None)
    return figures(measured, messages)


def _zmq(stage, scale):
    messages = scale.of(_MESSAGES)
    return figures(stage.run([stage.start(raw.call_singles, raw.start_echo(stage), 0, 1, messages)]), messages)


def _alone(actor, stage, scale):
    messages = scale.of(_MESSAGES)
    return figures(stage.run([stage.start(actor, stage.folder, messages)]), messages)


WORKLOAD = Workload(
    "alone", "Publish one message at a time, 100 bytes", "messages/s",
    [
        *(Case(peer.name, peer.durability, partial(_publish, peer)) for peer in PEERS),
        Case("raw pyzmq round trip", NONE, _zmq),
        Case("raw LMDB commit", FSYNC_EACH, partial(_alone, raw.append_singles)),
        Case("raw write + fdatasync", FSYNC_EACH, partial(_alone, raw.write_singles)),
    ],
    [
        Ratio("zstreampub", ("raw pyzmq round trip", "raw LMDB commit"), "0.8"),
        Ratio("zstreampub", "Redis always", "< 1.5", "p99_us"),
        Ratio("zstreampub", "Redis always"),
        Ratio("zstreampub", "JetStream"),
        Ratio("zstreampub", "zerorpc recipe"),
        Ratio("zstreampub", "zerorpc recipe + LMDB"),
        Ratio("zstreampub", "raw LMDB commit"),
    ],
    "W1",
)
