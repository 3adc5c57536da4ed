"""Latency at a steady rate: from the time when a message was due to its delivery, decoded, of all subscribers."""

from functools import partial

from ..actors import percentiles
from ..payloads import Dues
from ..peers import OURS, PEERS, RECIPE, RECIPE_LMDB, spread
from ..workload import Case, Ratio, Workload, figures

_RATE = 1000
_SECONDS = 10
_SUBSCRIBERS = 10
HISTOGRAM = "delays_us"     # figure -> the delay that each hundredth of the messages had at most


def _deliver(peer, stage, scale):
    where, messages = peer.start(stage), _RATE * (3 if scale.quick else _SECONDS)
    if peer in (RECIPE, RECIPE_LMDB):       # they do not keep up, so it only grows
        messages //= 4
    readers = [stage.start(peer.subscribe, where, share, messages, Dues) for share in spread(_SUBSCRIBERS)]
    publisher = stage.start(peer.publish_steadily, where, _RATE, messages)
    measured = stage.run([publisher], readers)
    delays = sorted(delay for one in measured.results for delay in one.get("delays", ()))
    steps = [delays[min(int(len(delays) * share / 1000), len(delays) - 1)] * 1e6 for share in range(1001)]
    return figures(measured, len(delays), **percentiles(delays), **{HISTOGRAM: steps})


WORKLOAD = Workload(
    "steady", "Latency at 1,000 messages/s to 10 subscribers, from when a message was due", "deliveries/s",
    [Case(peer.name, peer.durability, partial(_deliver, peer)) for peer in PEERS],
    [Ratio(OURS.name, over, "< 1" if over == "Redis always" and figure != "p999_us" else "", figure)
     for over in ("Redis always", "Redis everysec", "JetStream") for figure in ("p50_us", "p99_us", "p999_us")],
    "W6",
)
