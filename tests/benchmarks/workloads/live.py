"""Subscribers that decode and check everything while batches of 1,000 are published.

Where there are more than three subscribers they share three processes, each with a connection of its own.
"""

from functools import partial

from .. import raw
from ..payloads import BATCH, BYTES, Runs
from ..peers import NATS, OURS, PEERS, spread
from ..stage import free_endpoint
from ..workload import NONE, Case, Ratio, Workload, figures

_BATCHES = 600
_LARGE = 1024
_LARGE_SHARE = 0.25
_COUNTS = [1, 4, 16]
_GOALS = {1: "8", 4: "6", 16: "5"}


def _deliver(peer, subscribers, size, stage, scale):
    where, batches = peer.start(stage), _batches(scale, subscribers, size, peer.delivered)
    readers = [stage.start(peer.subscribe, where, share, batches * BATCH, partial(Runs, size))
               for share in spread(subscribers)]
    publisher = stage.start(peer.publish_batches, where, 0, batches, size)
    return figures(stage.run([publisher], readers), subscribers * batches * BATCH)


def _zmq(subscribers, size, stage, scale):
    endpoint, batches = free_endpoint(), _batches(scale, subscribers, size, 1)
    stage.start_server(raw.stream_batches, endpoint, subscribers, batches, size)
    readers = [stage.start(raw.read_stream, endpoint, share, batches * BATCH, partial(Runs, size))
               for share in spread(subscribers)]
    return figures(stage.run(readers), subscribers * batches * BATCH)


def _zmq_relayed(subscribers, size, stage, scale):
    endpoint, batches = free_endpoint(), _batches(scale, subscribers, size, 1)
    stage.start_server(raw.relay, endpoint)
    readers = [stage.start(raw.read_stream, endpoint, share, batches * BATCH, partial(Runs, size), True)
               for share in spread(subscribers)]
    publisher = stage.start(raw.call_batches, endpoint, 0, batches, size)
    return figures(stage.run([publisher], readers), subscribers * batches * BATCH)


def _batches(scale, subscribers, size, share):
    """Return fewer batches where each of them is delivered more often, or larger."""
    large = 1 if size == BYTES else _LARGE_SHARE
    return max(int(scale.of(_BATCHES) * share * large / (subscribers / 4 if subscribers > 4 else 1)), 1)


def _of(subscribers, size):
    return f", {subscribers} subscriber{'s' if subscribers > 1 else ''}{'' if size == BYTES else ', 1 KiB'}"


def _cases(subscribers, size=BYTES):
    of = _of(subscribers, size)
    return [*(Case(peer.name + of, peer.durability, partial(_deliver, peer, subscribers, size)) for peer in PEERS),
            Case("raw pyzmq" + of, NONE, partial(_zmq, subscribers, size)),
            Case("raw pyzmq, relayed" + of, NONE, partial(_zmq_relayed, subscribers, size))]


def _ratios(subscribers, size=BYTES):
    of = _of(subscribers, size)
    return [
        Ratio(OURS.name + of, "Redis always" + of, _GOALS[subscribers]),
        Ratio(OURS.name + of, "Redis always" + of, "< 1", "server_us"),
        Ratio(OURS.name + of, NATS.name + of),
        Ratio(OURS.name + of, "zerorpc recipe" + of),
        Ratio(OURS.name + of, "raw pyzmq" + of, "0.6"),
        Ratio(OURS.name + of, "raw pyzmq, relayed" + of),
    ]


WORKLOAD = Workload(
    "live", "Publish batches of 1,000 and deliver them, decoded (us/msg = processor seconds per million deliveries)",
    "deliveries/s",
    [*(case for count in _COUNTS for case in _cases(count)), *_cases(4, _LARGE)],
    [*(ratio for count in _COUNTS for ratio in _ratios(count)), *_ratios(4, _LARGE)],
    "W4",
)
