"""What asyncio costs: the same done with the client for asyncio and with that for gevent."""

from functools import partial

from .. import actors, coroutines
from ..payloads import BATCH
from ..workload import FSYNC, LOG, Case, Ratio, Workload, figures

_CALLERS = 64
_MESSAGES = 32_000
_BATCHES = 500


def _publish(publish, callers, stage, scale):
    endpoint = stage.serve()
    count = scale.of(_MESSAGES if callers > 1 else _MESSAGES // 16) // callers * callers
    measured = stage.run([stage.start(publish, endpoint, 0, callers, count)])
    stage.start(actors.check_log, endpoint, count).result()
    return figures(measured, count)


def _read(read, stage, scale):
    endpoint, batches = stage.serve(), scale.of(_BATCHES)
    stage.run([stage.start(actors.publish_batches, endpoint, 0, batches)])
    return figures(stage.run([stage.start(read, endpoint, batches * BATCH)]), batches * BATCH)


WORKLOAD = Workload(
    "asyncio", "The client for asyncio beside that for gevent", "messages/s",
    [
        Case("asyncio, 64 publishers", FSYNC, partial(_publish, coroutines.publish_singles, _CALLERS)),
        Case("gevent, 64 publishers", FSYNC, partial(_publish, actors.publish_singles, _CALLERS)),
        Case("asyncio, publish one at a time", FSYNC, partial(_publish, coroutines.publish_singles, 1)),
        Case("gevent, publish one at a time", FSYNC, partial(_publish, actors.publish_singles, 1)),
        Case("asyncio, read one by one", LOG, partial(_read, coroutines.read_messages_aio)),
        Case("gevent, read one by one", LOG, partial(_read, coroutines.read_messages)),
        Case("asyncio, read batches", LOG, partial(_read, coroutines.read_batches_aio)),
        Case("gevent, read batches", LOG, partial(_read, coroutines.read_batches)),
    ],
    [
        Ratio("asyncio, 64 publishers", "gevent, 64 publishers"),
        Ratio("asyncio, publish one at a time", "gevent, publish one at a time"),
        Ratio("asyncio, read one by one", "gevent, read one by one"),
        Ratio("asyncio, read batches", "gevent, read batches"),
    ],
)
