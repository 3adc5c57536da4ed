"""Batch subscribers that decode and check everything while batches of 1,000 are published."""

from functools import partial

from .. import actors, raw, recipe
from ..payloads import BATCH
from ..stage import free_endpoint
from ..workload import FSYNC, NONE, Case, Ratio, Workload, figures

_BATCHES = 1000
_CLIENT = (actors.publish_batches, actors.subscribe_batches)
_LEAN = (actors.publish_batches_lean, actors.subscribe_batches_lean)


def _ours(publish, subscribe, subscribers, stage, scale):
    endpoint, batches = stage.serve(), scale.of(_BATCHES)
    messages = batches * BATCH
    readers = [stage.start(subscribe, endpoint, [0], messages) for _ in range(subscribers)]
    publisher = stage.start(publish, endpoint, 0, batches)
    return figures(stage.run([publisher], readers), subscribers * messages)


def _recipe(subscribers, stage, scale):
    endpoint, batches = free_endpoint(), max(scale.of(_BATCHES) // 16 // subscribers, 1)
    stage.start_server(recipe.serve, endpoint)
    readers = [stage.start(recipe.subscribe, endpoint, batches * BATCH) for _ in range(subscribers)]
    publisher = stage.start(recipe.publish_batches, endpoint, 0, batches)
    return figures(stage.run([publisher], readers), subscribers * batches * BATCH)


def _zmq(subscribers, stage, scale):
    endpoint, batches = free_endpoint(), scale.of(_BATCHES)
    stage.start_server(raw.stream_batches, endpoint, subscribers, batches)
    readers = [stage.start(raw.read_stream, endpoint, batches * BATCH) for _ in range(subscribers)]
    return figures(stage.run(readers), subscribers * batches * BATCH)


WORKLOAD = Workload(
    "live", "Publish batches of 1,000 and deliver them, decoded", "deliveries/s",
    [
        Case("zstreampub, 1 subscriber", FSYNC, partial(_ours, *_CLIENT, 1), "1,000,000"),
        Case("zstreampub, 3 subscribers", FSYNC, partial(_ours, *_CLIENT, 3)),
        Case("zstreampub, 3 lean subscribers", FSYNC, partial(_ours, *_LEAN, 3)),
        Case("zerorpc recipe, 1 subscriber", NONE, partial(_recipe, 1)),
        Case("zerorpc recipe, 3 subscribers", NONE, partial(_recipe, 3)),
        Case("raw pyzmq, 1 reader", NONE, partial(_zmq, 1)),
        Case("raw pyzmq, 3 readers", NONE, partial(_zmq, 3)),
    ],
    [
        Ratio("zstreampub, 1 subscriber", "zerorpc recipe, 1 subscriber"),
        Ratio("zstreampub, 3 subscribers", "zerorpc recipe, 3 subscribers"),
        Ratio("zstreampub, 1 subscriber", "raw pyzmq, 1 reader"),
        Ratio("zstreampub, 3 subscribers", "raw pyzmq, 3 readers"),
    ],
)
