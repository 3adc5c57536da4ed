"""Publish single messages: many in flight from one process and from three, and one at a time."""

from functools import partial

from .. import actors, raw, recipe
from ..stage import free_endpoint
from ..workload import FSYNC, FSYNC_EACH, NONE, Case, Ratio, Workload, figures

_CALLERS = 64
_MESSAGES = 32_000      # of one process


def _count(callers, scale):
    """Return how many messages a process publishes: a multiple of its callers."""
    return scale.of(_MESSAGES if callers > 1 else _MESSAGES // 16) // callers * callers


def _ours(publish, publishers, callers, stage, scale):
    endpoint, share = stage.serve(), _count(callers, scale)
    cast = [stage.start(publish, endpoint, source, callers, share) for source in range(publishers)]
    measured = stage.run(cast)
    stage.start(actors.check_log, endpoint, publishers * share).result()
    return figures(measured, publishers * share)


def _recipe(publishers, callers, stage, scale):
    endpoint, share = free_endpoint(), _count(callers, scale) // 4 // callers * callers
    stage.start_server(recipe.serve, endpoint)
    cast = [stage.start(recipe.publish_singles, endpoint, source, callers, share) for source in range(publishers)]
    return figures(stage.run(cast), publishers * share)


def _zmq(publishers, callers, stage, scale):
    endpoint, share = free_endpoint(), _count(callers, scale)
    stage.start_server(raw.echo, endpoint)
    cast = [stage.start(raw.call_singles, endpoint, source, callers, share) for source in range(publishers)]
    return figures(stage.run(cast), publishers * share)


def _lmdb(stage, scale):
    messages = _count(1, scale)
    return figures(stage.run([stage.start(raw.append_singles, stage.folder, messages)]), messages)


WORKLOAD = Workload(
    "singles", "Publish single messages", "messages/s",
    [
        Case("zstreampub, 1 process x 64", FSYNC, partial(_ours, actors.publish_singles, 1, _CALLERS)),
        Case("zstreampub, 3 processes x 64", FSYNC, partial(_ours, actors.publish_singles, 3, _CALLERS), "40,000"),
        Case("zstreampub, one at a time", FSYNC, partial(_ours, actors.publish_singles, 1, 1)),
        Case("zstreampub, a request each, 1 x 64", FSYNC, partial(_ours, actors.publish_singles_lean, 1, _CALLERS)),
        Case("zstreampub, a request each, 3 x 64", FSYNC, partial(_ours, actors.publish_singles_lean, 3, _CALLERS)),
        Case("zerorpc recipe, 1 process x 64", NONE, partial(_recipe, 1, _CALLERS)),
        Case("zerorpc recipe, 3 processes x 64", NONE, partial(_recipe, 3, _CALLERS)),
        Case("zerorpc recipe, one at a time", NONE, partial(_recipe, 1, 1)),
        Case("raw pyzmq, 1 process x 64", NONE, partial(_zmq, 1, _CALLERS)),
        Case("raw pyzmq, 3 processes x 64", NONE, partial(_zmq, 3, _CALLERS)),
        Case("raw pyzmq, one at a time", NONE, partial(_zmq, 1, 1)),
        Case("raw LMDB, one record a transaction", FSYNC_EACH, _lmdb),
    ],
    [
        Ratio("zstreampub, 1 process x 64", "zerorpc recipe, 1 process x 64"),
        Ratio("zstreampub, 3 processes x 64", "zerorpc recipe, 3 processes x 64"),
        Ratio("zstreampub, a request each, 3 x 64", "zerorpc recipe, 3 processes x 64"),
        Ratio("zstreampub, one at a time", "zerorpc recipe, one at a time"),
        Ratio("zstreampub, 3 processes x 64", "raw pyzmq, 3 processes x 64"),
        Ratio("zstreampub, one at a time", "raw LMDB, one record a transaction"),
    ],
)
