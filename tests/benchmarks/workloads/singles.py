"""Publish single messages, many in flight: from callers that wait for their own answers, and without waiting."""

from functools import partial

from .. import actors, jetstream, raw, redis_streams
from ..peers import ALWAYS, EVERYSEC, NATS, OURS, PEERS, RECIPE
from ..workload import FSYNC, NONE, Case, Ratio, Workload, figures

_CALLERS = 64
_MESSAGES = 64_000      # of one process


def _share(peer, scale):
    """Return how many messages a process publishes: a multiple of its callers."""
    return int(scale.of(_MESSAGES) * peer.published) // _CALLERS * _CALLERS


def _callers(peer, processes, publish, stage, scale):
    where, share = peer.start(stage), _share(peer, scale)
    cast = [stage.start(publish, where, source, _CALLERS, share) for source in range(processes)]
    measured = stage.run(cast)
    peer.check(stage, where, processes * share, None)
    return figures(measured, processes * share)


def _pipelined(peer, publish, window, stage, scale):
    where, messages = peer.start(stage), scale.of(_MESSAGES)
    measured = stage.run([stage.start(publish, where, 0, window, messages)])
    peer.check(stage, where, messages, None)
    return figures(measured, messages)


def _zmq(processes, stage, scale):
    endpoint, share = raw.start_echo(stage), scale.of(_MESSAGES)
    cast = [stage.start(raw.call_singles, endpoint, source, _CALLERS, share) for source in range(processes)]
    return figures(stage.run(cast), processes * share)


def _case(peer, processes=1, publish=None, how="64 callers"):
    where = f"{processes} x " if processes > 1 else ""
    return Case(f"{peer.name}, {where}{how}", peer.durability,
                partial(_callers, peer, processes, publish or peer.publish_singles))


def _pipeline(peer, publish):
    return Case(f"{peer.name}, pipeline of 64", peer.durability, partial(_pipelined, peer, publish, _CALLERS))


WORKLOAD = Workload(
    "singles", "Publish single messages of 100 bytes, 64 in flight of each process", "messages/s",
    [
        *(_case(peer) for peer in PEERS),
        Case("zstreampub, futures, 64 at a time", FSYNC, partial(_pipelined, OURS, actors.publish_futures, _CALLERS)),
        Case("zstreampub, futures, no limit", FSYNC, partial(_pipelined, OURS, actors.publish_futures, None)),
        _pipeline(ALWAYS, redis_streams.publish_pipelined),
        _pipeline(EVERYSEC, redis_streams.publish_pipelined),
        _pipeline(NATS, jetstream.publish_pipelined),
        _case(OURS, publish=actors.publish_singles_lean, how="64 callers, a request each"),
        _case(OURS, 3),
        _case(OURS, 3, actors.publish_singles_lean, "64 callers, a request each"),
        _case(RECIPE, 3),
        Case("raw pyzmq, 64 in flight", NONE, partial(_zmq, 1)),
        Case("raw pyzmq, 3 x 64 in flight", NONE, partial(_zmq, 3)),
    ],
    [
        Ratio("zstreampub, 64 callers", "Redis always, 64 callers", "2.5"),
        Ratio("zstreampub, futures, 64 at a time", "Redis always, pipeline of 64", "1"),
        Ratio("zstreampub, futures, no limit", "Redis always, pipeline of 64", "1"),
        Ratio("zstreampub, 64 callers", "JetStream, 64 callers"),
        Ratio("zstreampub, 64 callers", "zerorpc recipe, 64 callers"),
        Ratio("zstreampub, 64 callers", "zerorpc recipe + LMDB, 64 callers"),
        Ratio("zstreampub, 3 x 64 callers", "zerorpc recipe, 3 x 64 callers"),
        Ratio("zstreampub, 3 x 64 callers, a request each", "zerorpc recipe, 3 x 64 callers"),
        Ratio("zstreampub, 64 callers", "raw pyzmq, 64 in flight"),
    ],
    "W2",
)
