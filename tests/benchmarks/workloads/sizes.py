"""How throughput grows with the length of a batch; nobody subscribes."""

from functools import partial

from ..payloads import BYTES
from ..peers import ALWAYS, EVERYSEC, NATS, OURS, RECIPE_LMDB
from ..workload import Case, Workload, figures

LENGTHS = [1, 10, 100, 1000, 8000]
PEERS = [OURS, ALWAYS, EVERYSEC, NATS, RECIPE_LMDB]
_MESSAGES = 400_000
_BATCHES = 1500


def _publish(peer, length, stage, scale):
    where = peer.start(stage)
    batches = max(int(min(scale.of(_MESSAGES) / length, scale.of(_BATCHES)) * peer.published), 1)
    measured = stage.run([stage.start(peer.publish_batches, where, 0, batches, BYTES, length)])
    peer.check(stage, where, batches * length, None if batches * length < 64_000 else 64_000)
    return figures(measured, batches * length)


def name(peer, length):
    return f"{peer.name}, {length:,} a batch"


WORKLOAD = Workload(
    "sizes", "Publish in batches of different lengths, 100 bytes a message", "messages/s",
    [Case(name(peer, length), peer.durability, partial(_publish, peer, length))
     for length in LENGTHS for peer in PEERS],
    [],
)
