"""How the cost of a message grows: with its size, with topics, with subscriptions, and with what is stored.

Each message is a call of its own, 16 in flight, 100 bytes where nothing else is said, to one topic, and nobody
subscribes. Server us/msg is the figure: processor time of the server for each message that is published. Calls that
come together for one topic are stored as one batch; on many topics each is a batch of its own.
"""

from functools import partial

from .. import growth, logs
from ..payloads import BYTES
from ..workload import FSYNC, Case, Ratio, Workload, figures

_MESSAGES = 30_000
_SIZES = {"100 bytes": (BYTES, 1), "1 KiB": (1 << 10, 1), "10 KiB": (10 << 10, 0.3), "100 KiB": (100 << 10, 0.05),
          "1 MB": (1_000_000, 0.01)}
_TOPICS = [1, 100, 10_000, 100_000]
_SUBSCRIPTIONS = [1, 10, 100, 1_000]
_STORED = [0, 1_000_000, 10_000_000]


def _publish(stage, scale, size=BYTES, topics=1, share=1.0):
    messages = int(scale.of(_MESSAGES) * share)
    publisher = stage.start(growth.publish_calls, stage.serve(), topics, size, messages)
    return figures(stage.run([publisher]), messages)


def _deliver(subscriptions, topics, stage, scale):
    messages = scale.of(_MESSAGES) // (10 if subscriptions > 100 and topics == 1 else 1)
    endpoint = stage.serve()
    publisher = stage.start(growth.publish_calls, endpoint, 1, BYTES, messages)
    readers = stage.start(growth.read_all, endpoint, subscriptions, topics, messages)
    return figures(stage.run([publisher], [readers]), messages)


def _beside(stored, stage, scale):
    messages, endpoint = scale.of(_MESSAGES), stage.serve()
    if stored:
        stage.run([stage.start(logs.fill, endpoint, scale.of(stored))])
    return figures(stage.run([stage.start(growth.publish_calls, endpoint, 1, BYTES, messages)]), messages)


def _some(count, kind, rest=""):
    return f"{count:,} {kind}{'' if count == 1 else 's'}{rest}"


def _topics(count):
    return _some(count, "topic")


def _matching(count):
    return _some(count, "subscription", ", all match")


def _one_matches(count):
    return _some(count, "subscription", ", one matches")


def _stored(count):
    return f"{count:,} stored"


WORKLOAD = Workload(
    "growth", "What a message costs, by its size, by topics, subscriptions, and what is stored", "messages/s",
    [
        *(Case(name, FSYNC, partial(_publish, size=size, share=share)) for name, (size, share) in _SIZES.items()),
        *(Case(_topics(count), FSYNC, partial(_publish, topics=count)) for count in _TOPICS),
        *(Case(_one_matches(count), FSYNC, partial(_deliver, count, count)) for count in _SUBSCRIPTIONS),
        *(Case(_matching(count), FSYNC, partial(_deliver, count, 1)) for count in _SUBSCRIPTIONS),
        *(Case(_stored(count), FSYNC, partial(_beside, count)) for count in _STORED),
    ],
    [
        *(Ratio(name, "100 bytes", "", "server_us") for name in list(_SIZES)[1:]),
        *(Ratio(_topics(count), _topics(100), "< 1.3", "server_us") for count in _TOPICS[2:]),
        *(Ratio(_one_matches(count), _one_matches(1), "< 1.2", "server_us") for count in _SUBSCRIPTIONS[1:]),
        *(Ratio(_matching(count), _matching(1), f"< {count}", "server_us") for count in _SUBSCRIPTIONS[1:]),
        *(Ratio(_stored(count), _stored(0), "< 1.2", "server_us") for count in _STORED[1:]),
    ],
)
