"""Subscribers that decode and check everything while single messages are published, 64 in flight."""

from functools import partial

from ..payloads import Singles
from ..peers import OURS, PEERS, spread
from ..workload import Case, Ratio, Workload, figures

_CALLERS = 64
_SUBSCRIBERS = 4
_MESSAGES = 64_000


def _deliver(peer, stage, scale):
    where = peer.start(stage)
    messages = max(int(scale.of(_MESSAGES) * peer.delivered) // _CALLERS, 1) * _CALLERS
    readers = [stage.start(peer.subscribe, where, share, messages, Singles) for share in spread(_SUBSCRIBERS)]
    publisher = stage.start(peer.publish_singles, where, 0, _CALLERS, messages)
    return figures(stage.run([publisher], readers), _SUBSCRIBERS * messages)


WORKLOAD = Workload(
    "live-singles", "Publish single messages, 64 callers, and deliver them to 4 subscribers", "deliveries/s",
    [Case(peer.name, peer.durability, partial(_deliver, peer)) for peer in PEERS],
    [
        Ratio(OURS.name, "Redis always", "1"),
        Ratio(OURS.name, "Redis always", "", "server_us"),
        Ratio(OURS.name, "JetStream"),
        Ratio(OURS.name, "zerorpc recipe"),
    ],
    "W4s",
)
