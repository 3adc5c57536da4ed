"""The peers that are compared, each with the actors that do the same at it. An actor's first arguments are its link
to the stage and where the server is, as ``start(stage)`` returned it.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from . import actors, jetstream, recipe, redis_streams
from .workload import EVERY_SECOND, FSYNC, NONE, PAGE_CACHE


class Peer(NamedTuple):
    """One system. ``check(stage, where, messages, wrap)`` fails unless it has stored that many.

    ``published`` and ``delivered`` are the shares of a workload's messages that a slow one is given.
    """

    name: str
    durability: str
    start: Callable
    check: Callable
    publish_singles: Callable       # link, where, source, callers, messages
    publish_batches: Callable       # link, where, source, batches, size, length
    publish_steadily: Callable      # link, where, rate, messages
    subscribe: Callable             # link, where, readers, messages, make_sink[, start]
    published: float = 1.0
    delivered: float = 1.0


def _peer(name, durability, start, module, check, **shares):
    return Peer(name, durability, start, check, module.publish_singles, module.publish_batches,
                module.publish_steadily, module.subscribe, **shares)


OURS = _peer("zstreampub", FSYNC, actors.start, actors, actors.check)
ALWAYS = _peer("Redis always", FSYNC, partial(redis_streams.start, redis_streams.ALWAYS), redis_streams,
               redis_streams.check, published=0.25, delivered=0.25)
EVERYSEC = _peer("Redis everysec", EVERY_SECOND, partial(redis_streams.start, redis_streams.EVERYSEC), redis_streams,
                 redis_streams.check, published=0.25, delivered=0.25)
NATS = _peer("JetStream", PAGE_CACHE, jetstream.start, jetstream, jetstream.check, published=0.25, delivered=0.25)
RECIPE = _peer("zerorpc recipe", NONE, recipe.start, recipe, recipe.check_nothing, published=0.25, delivered=0.06)
RECIPE_LMDB = _peer("zerorpc recipe + LMDB", FSYNC, recipe.start_durable, recipe, recipe.check_durable,
                    published=0.25, delivered=0.06)
PEERS = [OURS, ALWAYS, EVERYSEC, NATS, RECIPE, RECIPE_LMDB]


def spread(readers, processes=3):
    """Return how many of *readers* are in each process, of so many at most."""
    return [len(range(at, readers, processes)) for at in range(min(readers, processes))]
