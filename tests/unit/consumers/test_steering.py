"""Creating, changing, moving, pausing and deleting consumers."""

import gevent
import pytest

from tests.unit.consumers.desk import Desk, given, settle, taken, told
from zstreampub.errors import (
    ConsumerConflict,
    ConsumerDeleted,
    InvalidOption,
    InvalidTopic,
    LimitExceeded,
    OffsetOutOfRange,
    StaleDelivery,
    UnknownConsumer,
)


def test_a_consumer_is_created_once_and_found_again(desk):
    made = desk.consumers.create("c", ["a", "b.>"], ack_wait_s=5, max_deliveries=3)

    assert desk.consumers.create("c", ["b.>", "a"], ack_wait_s=5) == made
    assert (made["settings"]["ack_wait_s"], made["settings"]["max_deliveries"]) == (5, 3)
    assert (made["consumer"], made["patterns"], made["mode"], made["paused"]) == ("c", ["a", "b.>"], "shared", False)
    assert (made["cursor"], made["floor"], made["pending"], made["dead"], made["oldest_unacked"]) == (0, 0, 0, 0, None)
    assert made["lag"] == {"messages": 0, "bytes": 0, "seconds": 0.0}
    assert desk.consumers.list() == [made]


def test_a_join_with_other_settings_is_refused_with_the_difference_spelled_out(desk):
    desk.consumers.create("c", "a", ack_wait_s=5)

    with pytest.raises(ConsumerConflict) as refused:
        desk.join(ack_wait_s=6, max_deliveries=10)
    assert "ack_wait_s is 5, not 6" in str(refused.value) and "max_deliveries" not in str(refused.value)
    with pytest.raises(ConsumerConflict):
        desk.join(patterns="b")
    with pytest.raises(ConsumerConflict):
        desk.consumers.create("c", "a", mode="exclusive")
    assert desk.broker.subscribe(consumer="c").consumer.name == "c"


def test_many_who_create_at_once_get_one_consumer(desk):
    made = [gevent.spawn(desk.join) for _ in range(5)]

    members = [one.get() for one in made]

    assert len({member.consumer for member in members}) == 1
    assert len(desk.describe()["members"]) == 5


def test_to_join_without_patterns_there_must_be_a_consumer(desk):
    with pytest.raises(UnknownConsumer):
        desk.broker.subscribe(consumer="c")
    for method in ("describe", "pause", "resume", "peek", "browse", "dead", "purge", "redrive", "clear_acked"):
        with pytest.raises(UnknownConsumer):
            getattr(desk.consumers, method)("c")
    assert desk.consumers.delete("c") is False


def test_names_patterns_and_settings_are_checked(desk):
    for name in ("", "a b", "a..b", ".a", "x" * 101, "ä", 5, None, "$dead", ".".join("x" * 32)):
        with pytest.raises(InvalidOption):
            desk.consumers.create(name, "a")
    with pytest.raises(InvalidTopic):
        desk.consumers.create("c", "a..b")
    for wrong in ({"mode": "x"}, {"ack_wait_s": 0}, {"backoff_s": 5}, {"backoff_s": [-1]}, {"jitter": 2},
                  {"max_deliveries": -1}, {"max_pending": 0}, {"max_pending": 1 << 40}, {"retention": "x"},
                  {"expired": "x"}, {"max_dead": 0}, {"inactive_s": 0}, {"colour": "red"}):
        with pytest.raises(InvalidOption):
            desk.consumers.create("c", "a", **wrong)
    with pytest.raises(OffsetOutOfRange):
        desk.consumers.create("c", "a", start=99)
    assert desk.consumers.create("some.name-1_x", "a", backoff_s=[0, 1.5], inactive_s=60.0)
    assert len(desk.consumers.list()) == 1


def test_there_are_only_so_many_consumers(clock):
    desk = Desk("memory:", clock, max_consumers=2)
    desk.consumers.create("c", "a")
    desk.consumers.create("d", "a")

    with pytest.raises(LimitExceeded):
        desk.consumers.create("e", "a")
    desk.broker.close()


@pytest.mark.parametrize("start, first", [("earliest", 0), (3, 3), ({"last": 2}, 4), ("new", None), (None, None)])
def test_a_consumer_starts_where_it_is_told_to(desk, start, first):
    desk.broker.publish_many("a", list(range(6)))

    member = desk.broker.subscribe("a", consumer="c", start=start)
    desk.broker.publish("a", 6)

    assert [offset for offset, _ in given(member)] == list(range(6 if first is None else first, 7))


def test_a_new_consumer_misses_nothing_that_comes_before_its_first_member(desk):
    desk.consumers.create("c", "a")
    desk.broker.publish_many("a", [1, 2])

    assert desk.describe()["lag"]["messages"] == 2
    assert given(desk.join()) == [(0, 1), (1, 1)]


def test_settings_are_changed_and_go_back_to_their_defaults(disk):
    disk.consumers.create("c", "a", ack_wait_s=5, max_dead=7)

    changed = disk.consumers.update("c", ack_wait_s=6, backoff_s=[1], max_dead=None)
    disk.reopen()

    assert disk.describe()["settings"] == changed["settings"]
    assert [changed["settings"][name] for name in ("ack_wait_s", "backoff_s", "max_dead")] == [6, [1], 10_000]
    for wrong in ({"mode": "exclusive"}, {"patterns": "b"}, {"start": 5}, {"ack_wait_s": -1}):
        with pytest.raises(InvalidOption):
            disk.consumers.update("c", **wrong)


def test_a_paused_consumer_hands_out_nothing_and_takes_acks(desk):
    desk.broker.publish("a", 1)
    member = desk.join()
    delivery, = taken(member)

    assert desk.consumers.pause("c")["paused"] == "by request"
    desk.broker.publish("a", 2)
    assert [notice.fields for notice in told(member)] == [{"control": "paused", "why": "by request"}]
    assert delivery.ack() == 1

    assert desk.consumers.resume("c")["paused"] is False
    notice, handout = member.get(), None
    settle()
    handout = member.get()
    assert (notice.fields, handout.batch.first) == ({"control": "resumed"}, 1)


def test_a_seek_drops_what_is_pending_and_what_the_members_have(desk):
    desk.broker.publish_many("a", list(range(6)))
    member = desk.join(max_in_flight=3)
    old = taken(member)

    assert desk.consumers.seek("c", 4)["cursor"] == 4

    assert given(member) == [(4, 1), (5, 1)]
    with pytest.raises(StaleDelivery):
        old[0].ack()
    desk.consumers.seek("c", "earliest")
    assert given(member) == [(0, 1), (1, 1), (2, 1)]
    desk.consumers.seek("c", "new")
    assert given(member) == []
    assert desk.describe()["lag"]["messages"] == 0
    with pytest.raises(OffsetOutOfRange):
        desk.consumers.seek("c", 99)
    with pytest.raises(InvalidOption):
        desk.consumers.seek("c", "last")


def test_a_seek_by_time(desk):
    desk.broker.publish("a", 1)
    time = desk.broker.last("a").time
    desk.join()
    settle()

    assert desk.consumers.seek("c", {"time": time})["cursor"] == 0
    assert desk.consumers.seek("c", {"time": time + 1000})["cursor"] == 1


def test_members_of_a_deleted_consumer_are_told(desk):
    desk.broker.publish("a", 1)
    member = desk.join()
    delivery, = taken(member)
    waiting = gevent.spawn(desk.consumers.fetch, "c", timeout_s=60)
    settle()

    assert desk.consumers.delete("c") is True

    with pytest.raises(ConsumerDeleted):
        member.get()
    with pytest.raises(UnknownConsumer):
        delivery.ack()
    assert waiting.get() == []
    assert desk.broker.subscriptions == {}


def test_a_consumer_that_nobody_uses_is_deleted_after_its_time(desk):
    desk.consumers.create("kept", "a")
    member = desk.join(inactive_s=100)

    desk.advance(200)
    assert len(desk.consumers.list()) == 2
    member.close()
    desk.advance(60)
    desk.consumers.fetch("c")
    desk.advance(60)
    assert len(desk.consumers.list()) == 2
    desk.advance(60)

    assert [one["consumer"] for one in desk.consumers.list()] == ["kept"]


def test_what_consumers_keep_is_guarded(desk, monkeypatch):
    desk.broker.publish_many("a", list(range(10)))
    guards = []
    monkeypatch.setattr(desk.broker.store, "guard", lambda given: guards.append(
        {guard.name: guard.first for guard in given}))

    member = desk.join()
    desk.consumers.create("gap", "a", retention="gap")
    taken(member)
    desk.consumers.ack("c", [0, 1, 5])
    desk.consumers._guard_now()
    desk.consumers.seek("c", 7)
    desk.consumers.delete("c")

    assert guards == [{"c": 0}, {"c": 0}, {"c": 2}, {"c": 7}, {}]
