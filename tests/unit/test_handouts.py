"""What a member of a consumer is given: delivery and token on every message, in both forms."""

from collections import deque
from types import SimpleNamespace

import msgpack
import pytest

from zstreampub.broker import Broker
from zstreampub.consumers import Notice
from zstreampub.errors import ServerDraining
from zstreampub.handouts import open_feed
from zstreampub.message import Batch
from zstreampub.store import Gap


class FakeMember:
    """A member that was given *things* and nothing else."""

    id = "m1"
    policy = SimpleNamespace(name="consumer")
    live, ended, error, position = True, False, None, 17

    def __init__(self, things):
        self.queue = deque(things)

    @property
    def is_idle(self):
        return not self.queue

    def take(self):
        return self.queue.popleft() if self.queue else None

    def agreed(self):
        return {"consumer": "billing", "max_in_flight": 9, "ack_wait_s": 30.0, "held": [[3, 5]]}


@pytest.fixture(scope="module")
def broker():
    with Broker.open("memory:") as broker:
        yield broker


def handout(batch, delivery=1, token=1 << 52, ack_wait_s=30.0):
    return SimpleNamespace(batch=batch, size=batch.size, delivery=delivery, token=token, ack_wait_s=ack_wait_s)


def batch(first, payloads, **columns):
    made = Batch.of("orders.new", payloads, **columns)
    made.seal(first, 1_000_000)
    return made


def feed_of(broker, form, *things):
    member = FakeMember(things)
    return open_feed(form, broker, member)


def drain(feed):
    items = []
    while (item := feed.next_item()) is not None:
        items.append(msgpack.unpackb(b"".join(item)))
    return items


def test_each_map_has_the_delivery_and_the_token_besides_its_message(broker):
    full = batch(7, ["x", None], keys=["k", None], ids=[b"i", None], headers=[{"h": 1}, None])
    plain = [message.as_map() for message in full.messages()]

    items = drain(feed_of(broker, "map", handout(full, 2, 1 << 52), handout(batch(9, [1]), 1, 5)))

    assert items[:2] == [{**message, "delivery": 2, "token": 1 << 52} for message in plain]
    assert (items[2]["offset"], items[2]["delivery"], items[2]["token"]) == (9, 1, 5)


def test_a_map_of_every_field_there_is_has_room_for_two_more(broker):
    broken = Batch.assemble("a", [b"\xc1"], {"key": ["k"], "id": ["i"], "headers": [{"h": 1}], "expires": [1 << 60]})

    item, = drain(feed_of(broker, "map", handout(broken, 3, 4)))

    assert (item["error"], item["payload"], item["delivery"], item["token"]) == ("InvalidPayload", b"\xc1", 3, 4)
    assert {"topic", "time", "offset", "key", "id", "headers"} <= set(item)


def test_the_maps_that_other_readers_share_stay_as_they_were(broker):
    shared = batch(0, [1, 2])
    before = list(shared.map_items())

    drain(feed_of(broker, "map", handout(shared)))

    assert shared.map_items() == before


def test_before_each_batch_stands_a_map_that_says_what_holds_for_it(broker):
    one, other = batch(0, [1, 2]), batch(5, [3])

    item, = drain(feed_of(broker, "batch", handout(one, 1, 10), handout(other, 4, 11, 2.5)))

    assert item == [0, {"token": 10, "delivery": 1, "ack_wait_s": 30.0}, one.packed,
                    {"token": 11, "delivery": 4, "ack_wait_s": 2.5}, other.packed]


def test_a_batch_item_has_a_bound_though_there_are_many_small_hand_outs(broker):
    feed = feed_of(broker, "batch", *(handout(batch(n, [n])) for n in range(1_000)))

    items = drain(feed)

    assert [item[0] for item in items] == list(range(len(items))) and len(items) > 1
    assert sum(len(item) - 1 for item in items) == 2_000


@pytest.mark.parametrize("form", ["map", "batch"])
def test_gaps_and_notices_keep_their_places(broker, form):
    gap, notice = Gap(1, 3, 2, "expired"), Notice(control="paused", why="by request")
    feed = feed_of(broker, form, handout(batch(0, [1])), gap, notice, handout(batch(3, [2])), notice)

    controls = [item["control"] if isinstance(item, dict) and "control" in item else "message" for item in drain(feed)]

    assert controls == ["message", "gap", "paused", "message", "paused"]


@pytest.mark.parametrize("form", ["map", "batch"])
def test_a_control_in_hand_does_not_change_where_the_stream_is(broker, form):
    feed = feed_of(broker, form, handout(batch(0, [1, 2])), Notice(control="paused", why="by request"))
    feed.next_item()

    assert feed.pending and feed.position == 17
    assert feed.keepalive() is None


@pytest.mark.parametrize("form", ["map", "batch"])
def test_the_greeting_says_what_was_agreed(broker, form):
    feed = feed_of(broker, form)
    feed.subscription.queue = SimpleNamespace(max_messages=9, max_bytes=100)

    greeting = msgpack.unpackb(feed.greeting(5.0))

    assert (greeting["control"], greeting["policy"]) == ("subscribed", "consumer")
    assert [greeting[name] for name in ("consumer", "max_in_flight", "ack_wait_s", "held")] == [
        "billing", 9, 30.0, [[3, 5]]]


def test_the_end_names_no_offset_to_resume_from_as_the_consumer_knows_it(broker):
    feed = feed_of(broker, "map")
    feed.subscription.error = ServerDraining("The server is shutting down.")

    end = msgpack.unpackb(feed.end_item())

    assert (end["control"], end["why"], end["resume"]) == ("end", "ServerDraining", None)
    assert feed.farewell().startswith("The server is shutting down. ") and "join again" in feed.farewell()
