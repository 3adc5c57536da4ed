"""A work queue: 8 members take and acknowledge, one by one and as fast as it comes."""

from functools import partial

from .. import redis_streams, workers
from ..stage import Failed
from ..workload import FSYNC, Case, Ratio, Workload, figures

_MEMBERS = 8
_SINGLES = 20_000
_BATCHED = 500_000
_SQLITE = 2_000     # it slows down with what is in it
_FSYNC_EACH = "fsync of each step"


def _ours(work, messages, processes, stage, scale):
    endpoint, messages = stage.serve(), scale.of(messages)
    workers.fill(endpoint, messages)
    cast = [stage.start(work, endpoint, _MEMBERS // processes) for _ in range(processes)]
    return _checked(stage.run(cast), messages)


def _redis(processes, stage, scale):
    port, messages = redis_streams.start(redis_streams.ALWAYS, stage), scale.of(_SINGLES)
    workers.fill_redis(port, messages)
    cast = [stage.start(workers.work_redis, port, _MEMBERS // processes) for _ in range(processes)]
    return _checked(stage.run(cast), messages)


def _sqlite(stage, scale):
    messages = scale.of(_SQLITE)
    workers.fill_sqlite(stage.folder, messages)
    return _checked(stage.run([stage.start(workers.work_sqlite, stage.folder, _MEMBERS)]), messages)


def _checked(measured, messages):
    numbers = sorted(number for one in measured.results for number in one.pop("numbers"))
    if numbers != list(range(messages)):
        raise Failed(f"{len(numbers)} messages were acknowledged ({len(set(numbers))} different), {messages} published")
    return figures(measured, messages)


WORKLOAD = Workload(
    "work", "Take and acknowledge from a work queue, 8 members", "messages/s",
    [
        Case("zstreampub, one by one, 2 processes", FSYNC, partial(_ours, workers.work_singly, _SINGLES, 2)),
        Case("zstreampub, one by one, 1 process", FSYNC, partial(_ours, workers.work_singly, _SINGLES, 1)),
        Case("zstreampub, fetch one by one, 1 process", FSYNC, partial(_ours, workers.work_fetching, _SINGLES // 2, 1)),
        Case("zstreampub, acks in batches, 1 process", FSYNC, partial(_ours, workers.work_in_batches, _BATCHED, 1),
             "100,000"),
        Case("zstreampub, acks in batches, 2 processes", FSYNC, partial(_ours, workers.work_in_batches, _BATCHED, 2)),
        Case("Redis Streams, one by one, 2 processes", _FSYNC_EACH, partial(_redis, 2)),
        Case("Redis Streams, one by one, 1 process", _FSYNC_EACH, partial(_redis, 1)),
        Case("persist-queue SQLiteAckQueue", _FSYNC_EACH, _sqlite),
    ],
    [
        Ratio("zstreampub, one by one, 2 processes", "persist-queue SQLiteAckQueue", "5"),
        Ratio("zstreampub, one by one, 2 processes", "Redis Streams, one by one, 2 processes", "> 1"),
        Ratio("zstreampub, one by one, 1 process", "Redis Streams, one by one, 1 process", "> 1"),
        Ratio("zstreampub, fetch one by one, 1 process", "Redis Streams, one by one, 1 process"),
    ],
)
