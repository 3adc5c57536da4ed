"""Fetching, browsing, peeking, replacing, measuring and clearing."""

import gevent
import pytest

from tests.unit.consumers.desk import given, settle, taken
from zstreampub.errors import InvalidOption
from zstreampub.topics import PatternSet


def offsets(deliveries):
    return [(one.offset, one.delivery) for one in deliveries]


def test_a_fetch_takes_what_is_there_and_does_not_wait(desk):
    desk.consumers.create("c", "a")
    assert desk.consumers.fetch("c") == []
    desk.broker.publish_many("a", list(range(5)))

    assert offsets(desk.consumers.fetch("c")) == [(0, 1)]
    assert offsets(desk.consumers.fetch("c", 3)) == [(1, 1), (2, 1), (3, 1)]
    assert offsets(desk.consumers.fetch("c", 3)) == [(4, 1)]
    assert desk.consumers.fetch("c", 3) == []


def test_a_fetch_waits_for_the_first_message(desk):
    desk.consumers.create("c", "a")
    fetch = gevent.spawn(desk.consumers.fetch, "c", 5, timeout_s=60)
    settle()

    desk.broker.publish("a", 1)

    assert offsets(fetch.get()) == [(0, 1)]


def test_what_was_fetched_is_given_to_others_when_its_time_is_over(desk):
    desk.broker.publish_many("a", [1, 2])
    desk.consumers.create("c", "a", start="earliest")
    first, _ = desk.consumers.fetch("c", 2)
    assert first.ack() == 1

    desk.advance(29)
    assert desk.consumers.fetch("c") == []
    desk.advance(2)

    assert offsets(desk.consumers.fetch("c")) == [(1, 2)]


def test_what_waits_for_its_next_delivery_is_fetched_first(desk):
    desk.broker.publish_many("a", [1, 2, 3])
    desk.consumers.create("c", "a", start="earliest")
    delivery, = desk.consumers.fetch("c")
    delivery.nack()

    assert offsets(desk.consumers.fetch("c", 2)) in ([(0, 2)], [(0, 2), (1, 1)])


def test_one_message_is_fetched_by_its_offset_once(disk):
    disk.broker.publish_many("a", list(range(5)))
    disk.broker.publish("b", 5)
    disk.consumers.create("c", "a", start="earliest")

    third, = disk.consumers.fetch("c", offset=3)
    assert (third.offset, third.payload) == (3, 3)
    assert disk.consumers.fetch("c", offset=3) == []
    assert disk.consumers.fetch("c", offset=5) == []        # of another topic
    assert disk.consumers.fetch("c", offset=99) == []
    third.ack()
    assert disk.consumers.fetch("c", offset=3) == []
    disk.reopen()

    assert given(disk.join()) == [(0, 1), (1, 1), (2, 1), (4, 1)]
    assert disk.describe()["lag"]["messages"] == 4


def test_a_message_that_was_handed_out_ahead_is_pending_after_the_end(disk):
    disk.broker.publish_many("a", list(range(4)))
    disk.consumers.create("c", "a", start="earliest")
    ahead, = disk.consumers.fetch("c", offset=2)
    disk.reopen()

    member = disk.join()

    assert given(member) == [(0, 1), (1, 1), (3, 1)]
    disk.consumers.ack("c", [0, 1, 3])
    assert disk.describe()["floor"] == 2
    assert disk.consumers.ack("c", [[2, ahead.token]]) == 1
    assert disk.describe()["floor"] == 4


def test_so_many_messages_may_be_fetched_by_their_offsets_as_may_be_pending(desk):
    desk.broker.publish_many("a", list(range(6)))
    desk.consumers.create("c", "a", start="earliest", max_pending=2)
    for offset in (5, 4):
        desk.consumers.fetch("c", offset=offset)[0].ack()

    assert desk.consumers.fetch("c", offset=3) == []
    assert [one.offset for one in desk.consumers.fetch("c", 2)] == [0, 1]


def test_a_message_that_waits_is_fetched_by_its_offset_before_its_time(desk):
    desk.broker.publish("a", 1)
    desk.consumers.create("c", "a", start="earliest")
    delivery, = desk.consumers.fetch("c")
    delivery.nack(delay_s=100)

    assert offsets(desk.consumers.fetch("c", offset=0)) == [(0, 2)]


def test_a_fetch_from_an_exclusive_or_paused_consumer_gets_nothing(desk):
    desk.broker.publish("a", 1)
    desk.consumers.create("c", "a", start="earliest", mode="exclusive")
    desk.consumers.pause("c")
    assert desk.consumers.fetch("c") == []
    assert desk.consumers.fetch("c", offset=0) == []
    desk.consumers.resume("c")
    member = desk.join()
    settle()

    assert desk.consumers.fetch("c") == []
    assert given(member) == [(0, 1)]


def test_what_a_fetch_was_given_that_is_gone_is_given_to_others(desk):
    desk.consumers.create("c", "a")
    fetch = gevent.spawn(desk.consumers.fetch, "c", timeout_s=60)
    settle()
    desk.broker.append(_append("a"))
    gevent.sleep(0)
    fetch.kill()

    assert offsets(desk.consumers.fetch("c", timeout_s=1)) == [(0, 1)]


def _append(topic):
    from zstreampub.message import Batch
    from zstreampub.store import Append
    return Append([Batch.of(topic, [1])], lambda _: None)


def test_browsing_shows_what_is_not_settled_and_where_it_is(desk):
    desk.broker.publish_many("a", list(range(6)))
    desk.join(max_in_flight=4)
    settle()
    desk.consumers.ack("c", 0)
    desk.consumers.nack("c", 1, delay_s=60)
    settle()
    member = desk.consumers.by_name["c"].members[0]
    desk.consumers.pause("c")
    taken(member)

    found = desk.consumers.browse("c")

    assert [(one["offset"], one["state"], one["delivery"]) for one in found] == [
        (1, "waiting", 1), (2, "in_flight", 1), (3, "in_flight", 1), (4, "in_flight", 1), (5, "in_flight", 1)]
    assert [one["payload"] for one in desk.consumers.browse("c", first=3, limit=2)] == [3, 4]


def test_peeking_shows_what_is_next_and_hands_out_nothing(desk):
    desk.broker.publish_many("a", [10, 11])
    desk.consumers.create("c", "a", start="earliest")

    assert desk.consumers.peek("c")["payload"] == 10
    desk.consumers.fetch("c")
    assert desk.consumers.peek("c")["payload"] == 11
    desk.consumers.fetch("c")[0].nack()
    assert (desk.consumers.peek("c")["payload"], desk.consumers.peek("c")["delivery"]) == (11, 1)
    desk.consumers.ack("c", desk.consumers.fetch("c")[0].offset)
    assert desk.consumers.peek("c") is None


def test_only_what_nobody_has_can_be_given_another_payload(desk):
    desk.broker.publish_many("a", list(range(4)))
    desk.broker.publish("b", 4)
    desk.consumers.create("c", "a", start="earliest")
    first, second = desk.consumers.fetch("c", 2)
    first.ack()

    for offset in (0, 1, 4, 99):
        with pytest.raises(InvalidOption):
            desk.consumers.replace("c", offset, "new")
    second.nack()
    desk.consumers.replace("c", 1, "one")
    desk.consumers.replace("c", 3, "three")

    assert [one.payload for one in taken(desk.join())] == ["one", 2, "three"]
    assert desk.broker.get(1).payload == 1      # for all others it is what it was


def test_the_lag_is_measured_in_the_log(desk):
    desk.broker.publish_many("a", [bytes(100)] * 10)
    desk.join(max_in_flight=5)
    settle()
    desk.consumers.ack("c", [0, 2])
    settle()

    described = desk.describe()

    assert (described["pending"], described["in_flight"], described["cursor"]) == (5, 5, 7)
    assert described["lag"]["messages"] == 8
    assert 800 < described["lag"]["bytes"] < 1300
    assert described["oldest_unacked"]["offset"] == 1
    assert described["oldest_unacked"]["time"] == desk.broker.get(1).time


def test_the_lag_counts_what_was_settled_ahead_only_where_it_is_in_the_log(disk):
    for number in range(4):
        disk.broker.publish("a", number)
    disk.consumers.create("c", "a", start="earliest")
    second, = disk.consumers.fetch("c", offset=1)
    second.ack()
    disk.broker.store.trim(PatternSet(["a"]), 2)

    behind = [disk.describe()["lag"]["messages"]]
    disk.reopen()
    behind.append(disk.describe()["lag"]["messages"])

    assert behind == [2, 2]
    assert [one["offset"] for one in disk.consumers.browse("c")] == [2, 3]


def test_what_is_settled_is_cleared_from_the_log_and_no_more(desk):
    for n in range(10):
        desk.broker.publish("a", n)
    desk.join()
    other = desk.join("other")
    settle()
    desk.consumers.ack("c", [], before=8)
    desk.consumers.ack("other", [], before=5)

    assert desk.consumers.clear_acked("c", keep_latest=1) == 4      # the other one holds the rest
    desk.consumers.ack("other", [], before=10)
    assert desk.consumers.clear_acked("c", keep_latest=1, max_delete=2) == 2
    assert desk.consumers.clear_acked("c", keep_latest=1) == 1
    assert desk.consumers.clear_acked("c", keep_latest=1) == 0
    assert desk.broker.store.bounds()[0] == 7
    other.close()
