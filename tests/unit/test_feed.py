"""Feeds: the items of a stream, and where to resume after each of them."""

import msgpack
import pytest

from tests.hand_store import Stage
from zstreampub.feed import BatchFeed, MapFeed
from zstreampub.message import Batch
from zstreampub.topics import PatternSet


def open_feed(kind, **options):
    stage = Stage()
    stage.publish(("a", [0, 1, 2], None))
    stage.publish(("a", [3], None))
    stage.store.settle()
    reader = stage.subscribe("a", **options)
    stage.store.settle()
    return stage, kind(stage.broker, reader.subscription)


def drain(stage, feed):
    """Return all items with the position after each."""
    found = []
    while True:
        stage.store.settle()
        item = feed.next_item()
        if item is None:
            return found
        found.append((msgpack.unpackb(b"".join(item)), feed.position))


def test_maps_come_one_by_one_and_the_position_follows_them():
    stage, feed = open_feed(MapFeed, start=0)

    found = drain(stage, feed)

    assert [(item["payload"], position) for item, position in found] == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_batches_come_together_with_a_running_number():
    stage, feed = open_feed(BatchFeed, start=0)
    greeting = msgpack.unpackb(feed.greeting(5.0))

    (item, position), = drain(stage, feed)

    assert (greeting["n"], item[0], position) == (0, 1, 4)
    assert [Batch.parse(packed).count for packed in item[1:]] == [3, 1]


def test_a_feed_of_batches_knows_whether_the_last_item_had_everything(monkeypatch):
    stage, feed = open_feed(BatchFeed, start=0)
    monkeypatch.setattr("zstreampub.feed._FRAME_BATCHES", 1)
    stage.store.settle()

    known = []
    while feed.next_item() is not None:
        known.append(feed.is_dry)
    monkeypatch.setattr("zstreampub.feed._FRAME_BATCHES", 2)
    stage.publish(("a", [4], None))
    stage.store.settle()
    feed.next_item()

    assert known == [False, False]
    assert feed.is_dry


@pytest.mark.parametrize("kind", [MapFeed, BatchFeed])
def test_the_greeting_says_what_was_agreed(kind):
    stage, feed = open_feed(kind, start=1, max_messages=7, policy="drop")

    greeting = msgpack.unpackb(feed.greeting(2.5))

    assert greeting["control"] == "subscribed"
    agreed = [greeting[name] for name in ("offset", "heartbeat_s", "policy", "max_messages")]
    assert agreed == [1, 2.5, "drop", 7]
    assert (greeting["id"], greeting["epoch"]) == (feed.subscription.id, stage.broker.epoch)


def test_a_gap_in_the_midst_of_batches_stays_in_its_place():
    stage, feed = open_feed(BatchFeed, start="new", policy="drop", max_messages=2)
    stage.publish(("a", [4, 5, 6], None))
    stage.store.settle()
    assert feed.next_item() is not None
    stage.publish(("a", [7], None))
    stage.store.settle()

    (gap, after_gap), (item, _) = drain(stage, feed)

    assert gap == {"control": "gap", "first": 6, "next": 7, "count": 1, "why": "drop", "n": 1}
    assert after_gap == 7
    assert item[0] == 2


def test_a_gap_in_hand_is_where_to_resume():
    stage, feed = open_feed(BatchFeed, start="new", policy="drop", max_messages=2)
    stage.publish(("a", [4, 5, 6], None))
    stage.store.settle()
    feed.next_item()

    assert feed.pending and feed.position == 6
    end = msgpack.unpackb(feed.end_item())
    assert end["resume"] == 6


def test_messages_in_hand_are_where_to_resume():
    stage, feed = open_feed(MapFeed, start=0)
    feed.next_item()
    stage.broker.unsubscribe(feed.subscription.id)

    end = msgpack.unpackb(feed.end_item())

    assert (end["why"], end["resume"]) == ("Unsubscribed", 1)


def test_there_is_no_keepalive_while_there_is_something_to_send():
    stage, feed = open_feed(MapFeed, start="new")
    assert msgpack.unpackb(feed.keepalive()) == {"control": "keepalive", "offset": 4}

    stage.publish(("a", [4, 5], None))
    stage.store.settle()
    assert feed.keepalive() is None
    feed.next_item()
    assert feed.keepalive() is None
    feed.next_item()

    assert msgpack.unpackb(feed.keepalive()) == {"control": "keepalive", "offset": 6}


def test_a_gap_of_retention_is_told_before_what_is_left():
    stage = Stage()
    for payload in range(4):
        stage.publish(("a", [payload], None))
        stage.store.settle()
    stage.store.trim(PatternSet(["a"]), 2)
    stage.broker._fan_out._tail.clear()
    stage.broker._fan_out._tail_first = 4
    feed = MapFeed(stage.broker, stage.subscribe("a", start=0).subscription)

    found = [item for item, _ in drain(stage, feed)]

    assert found[0] == {"control": "gap", "first": 0, "next": 2, "count": 2, "why": "retention"}
    assert [item["payload"] for item in found[1:]] == [2, 3]
