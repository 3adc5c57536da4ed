"""A new subscriber reads what is stored, from the earliest."""

from functools import partial

from .. import raw
from ..payloads import BATCH, BYTES, Runs
from ..peers import ALWAYS, EVERYSEC, NATS, OURS
from ..stage import free_endpoint
from ..workload import LOG, NONE, Case, Ratio, Workload, figures

_BATCHES = 500


def _read(peer, subscribers, stage, scale):
    where, batches = peer.start(stage), scale.of(_BATCHES)
    stage.run([stage.start(peer.publish_batches, where, 0, batches, BYTES)])
    messages = batches * BATCH
    readers = [stage.start(peer.subscribe, where, 1, messages, Runs, "earliest") for _ in range(subscribers)]
    return figures(stage.run(readers), subscribers * messages)


def _zmq(subscribers, stage, scale):
    endpoint, batches = free_endpoint(), scale.of(_BATCHES)
    stage.start_server(raw.stream_batches, endpoint, subscribers, batches)
    readers = [stage.start(raw.read_stream, endpoint, 1, batches * BATCH, Runs) for _ in range(subscribers)]
    return figures(stage.run(readers), subscribers * batches * BATCH)


def _lmdb(stage, scale):
    messages = scale.of(_BATCHES) * BATCH
    return figures(stage.run([stage.start(raw.read_cursor, stage.folder, messages)]), messages)


WORKLOAD = Workload(
    "replay", "Read 500,000 stored messages from the earliest, decoded", "deliveries/s",
    [
        Case("zstreampub, 1 subscriber", LOG, partial(_read, OURS, 1)),
        Case("zstreampub, 3 subscribers", LOG, partial(_read, OURS, 3)),
        Case("Redis everysec, 1 subscriber", "read from memory", partial(_read, EVERYSEC, 1)),
        Case("Redis always, 1 subscriber", "read from memory", partial(_read, ALWAYS, 1)),
        Case("JetStream, 1 subscriber", LOG, partial(_read, NATS, 1)),
        Case("raw LMDB cursor", LOG, _lmdb),
        Case("raw pyzmq, 1 reader", NONE, partial(_zmq, 1)),
        Case("raw pyzmq, 3 readers", NONE, partial(_zmq, 3)),
    ],
    [
        Ratio("zstreampub, 1 subscriber", "Redis everysec, 1 subscriber", "2.5"),
        Ratio("zstreampub, 1 subscriber", "JetStream, 1 subscriber"),
        Ratio("zstreampub, 1 subscriber", "raw LMDB cursor", "0.5"),
        Ratio("zstreampub, 1 subscriber", "raw pyzmq, 1 reader"),
        Ratio("zstreampub, 3 subscribers", "raw pyzmq, 3 readers"),
    ],
    "W5",
)
