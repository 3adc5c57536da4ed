"""A new subscriber reads what is stored, from the earliest."""

from functools import partial

from .. import actors, raw
from ..payloads import BATCH
from ..stage import free_endpoint
from ..workload import LOG, NONE, Case, Ratio, Workload, figures

_BATCHES = 2000


def _ours(subscribers, stage, scale):
    endpoint, batches = stage.serve(), scale.of(_BATCHES)
    stage.run([stage.start(actors.publish_batches, endpoint, 0, batches)])
    messages = batches * BATCH
    readers = [stage.start(actors.subscribe_batches, endpoint, [0], messages, "earliest") for _ in range(subscribers)]
    return figures(stage.run(readers), subscribers * messages)


def _zmq(subscribers, stage, scale):
    endpoint, batches = free_endpoint(), scale.of(_BATCHES)
    stage.start_server(raw.stream_batches, endpoint, subscribers, batches)
    readers = [stage.start(raw.read_stream, endpoint, batches * BATCH) for _ in range(subscribers)]
    return figures(stage.run(readers), subscribers * batches * BATCH)


WORKLOAD = Workload(
    "replay", "Read 2,000,000 stored messages from the earliest, decoded", "deliveries/s",
    [
        Case("zstreampub, 1 subscriber", LOG, partial(_ours, 1)),
        Case("zstreampub, 3 subscribers", LOG, partial(_ours, 3)),
        Case("raw pyzmq, 1 reader", NONE, partial(_zmq, 1)),
        Case("raw pyzmq, 3 readers", NONE, partial(_zmq, 3)),
    ],
    [
        Ratio("zstreampub, 1 subscriber", "raw pyzmq, 1 reader"),
        Ratio("zstreampub, 3 subscribers", "raw pyzmq, 3 readers"),
    ],
)
