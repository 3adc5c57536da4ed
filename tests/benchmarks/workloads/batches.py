"""Publish batches of 1,000 messages; nobody subscribes."""

from functools import partial

from .. import actors, raw, recipe
from ..payloads import BATCH, WRAP
from ..stage import free_endpoint
from ..workload import FSYNC, NONE, Case, Ratio, Workload, figures

_BATCHES = 1000


def _ours(publish, publishers, stage, scale):
    endpoint, share = stage.serve(), scale.of(_BATCHES)
    cast = [stage.start(publish, endpoint, source, share) for source in range(publishers)]
    measured = stage.run(cast)
    messages = publishers * share * BATCH
    stage.start(actors.check_log, endpoint, messages, WRAP).result()
    return figures(measured, messages)


def _recipe(publishers, stage, scale):
    endpoint, share = free_endpoint(), scale.of(_BATCHES) // 2
    stage.start_server(recipe.serve, endpoint)
    cast = [stage.start(recipe.publish_batches, endpoint, source, share) for source in range(publishers)]
    return figures(stage.run(cast), publishers * share * BATCH)


def _zmq(publishers, stage, scale):
    endpoint, share = free_endpoint(), scale.of(_BATCHES)
    stage.start_server(raw.echo, endpoint)
    cast = [stage.start(raw.call_batches, endpoint, source, share) for source in range(publishers)]
    return figures(stage.run(cast), publishers * share * BATCH)


def _lmdb(stage, scale):
    messages = scale.of(_BATCHES) * BATCH
    return figures(stage.run([stage.start(raw.append_batches, stage.folder, messages)]), messages)


WORKLOAD = Workload(
    "batches", "Publish batches of 1,000", "messages/s",
    [
        Case("zstreampub, 1 publisher", FSYNC, partial(_ours, actors.publish_batches, 1), "1,000,000"),
        Case("zstreampub, 3 publishers", FSYNC, partial(_ours, actors.publish_batches, 3)),
        Case("zstreampub, 3 lean publishers", FSYNC, partial(_ours, actors.publish_batches_lean, 3)),
        Case("zerorpc recipe, 1 publisher", NONE, partial(_recipe, 1)),
        Case("zerorpc recipe, 3 publishers", NONE, partial(_recipe, 3)),
        Case("raw pyzmq, 1 sender", NONE, partial(_zmq, 1)),
        Case("raw pyzmq, 3 senders", NONE, partial(_zmq, 3)),
        Case("raw LMDB, 1,000 records a transaction", FSYNC, _lmdb),
    ],
    [
        Ratio("zstreampub, 1 publisher", "zerorpc recipe, 1 publisher"),
        Ratio("zstreampub, 3 publishers", "zerorpc recipe, 3 publishers"),
        Ratio("zstreampub, 1 publisher", "raw LMDB, 1,000 records a transaction"),
        Ratio("zstreampub, 1 publisher", "raw pyzmq, 1 sender"),
        Ratio("zstreampub, 3 publishers", "raw pyzmq, 3 senders"),
    ],
)
