"""What an outbox costs: the same published with one and without."""

from collections.abc import Callable
from functools import partial

from .. import actors, outboxes
from ..workload import FSYNC, Case, Ratio, Workload, figures

_SINGLES = 2_000
_MANY = 64
_PRODUCED = 200_000
_HERE = "fsync here"


def _publish(callers, has_outbox, sent, stage, scale):
    count = scale.of(_SINGLES * (4 if callers > 1 else 1)) // callers * callers
    return _run(stage, count, outboxes.publish, has_outbox, callers, count, sent)


def _produce(has_outbox, sent, stage, scale):
    count = scale.of(_PRODUCED)
    return _run(stage, count, outboxes.produce, has_outbox, count, sent)


def _run(stage, count, actor, has_outbox, *arguments):
    endpoint = stage.serve()
    measured = stage.run([stage.start(actor, endpoint, stage.folder if has_outbox else None, *arguments)])
    stage.start(actors.check_log, endpoint, count).result()
    return figures(measured, count)


_WAYS: list[tuple[str, Callable]] = [
    ("one at a time", partial(_publish, 1)), ("64 publishers", partial(_publish, _MANY)), ("producer", _produce)]

WORKLOAD = Workload(
    "outbox", "Publish with an outbox: until it is kept here, until the server has it, and without one", "messages/s",
    [case for way, run in _WAYS for case in (
        Case(f"{way}, kept", _HERE, partial(run, True, False)),
        Case(f"{way}, sent", FSYNC, partial(run, True, True)),
        Case(f"{way}, no outbox", FSYNC, partial(run, False, False)))],
    [Ratio(f"{way}, {until}", f"{way}, no outbox") for way, _ in _WAYS for until in ("kept", "sent")],
)
