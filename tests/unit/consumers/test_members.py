"""Members: who gets what, and what happens to it when they go."""

import gevent
import pytest

from tests.unit.consumers.desk import given, settle, taken, told
from zstreampub.broker import Broker
from zstreampub.errors import InvalidOption, RequestTimeout, ServerDraining, Unsubscribed
from zstreampub.message import Batch
from zstreampub.store import Append, Gap


def test_history_and_what_comes_live_go_to_members_in_order(desk):
    desk.broker.publish_many("a", [1, 2])
    desk.broker.publish("b", "not wanted")
    member = desk.join()
    desk.broker.publish("a", 3)

    assert given(member) == [(0, 1), (1, 1), (3, 1)]


def test_each_message_is_at_one_member_and_few_are_spread_evenly(desk):
    members = [desk.join() for _ in range(4)]
    desk.broker.publish_many("a", list(range(10)))

    shares = [given(member) for member in members]

    assert sorted(one for share in shares for one in share) == [(offset, 1) for offset in range(10)]
    assert sorted(map(len, shares)) == [2, 2, 3, 3]


def test_single_messages_go_round(desk):
    members = [desk.join() for _ in range(3)]
    for n in range(6):
        desk.broker.publish("a", n)
        settle()

    assert [len(given(member)) for member in members] == [2, 2, 2]


def test_a_member_has_at_most_what_it_asked_for_in_flight(desk):
    desk.broker.publish_many("a", list(range(10)))
    member = desk.join(max_in_flight=3)

    first = taken(member)
    assert [one.offset for one in first] == [0, 1, 2]
    desk.consumers.ack("c", [[1, first[1].token]])

    assert given(member) == [(3, 1)]
    assert member.in_flight == 3


def test_a_member_that_has_plenty_is_given_more_when_some_can_go_together_or_a_moment_later(desk):
    desk.broker.publish_many("a", list(range(20)))
    member = desk.join(max_in_flight=16)
    assert len(given(member)) == 16

    desk.consumers.ack("c", [0])
    assert given(member) == []
    desk.advance(1)
    assert given(member) == [(16, 1)]

    desk.consumers.ack("c", [1, 2])
    assert given(member) == [(17, 1), (18, 1)]


def test_a_member_is_not_given_more_bytes_than_it_has_room_for(desk):
    desk.broker.publish_many("a", [bytes(1000)] * 20)
    member = desk.join(max_bytes=5000)
    settle()

    assert 3 <= member.queue.messages <= 6
    got = 0
    while (more := given(member)):      # as it takes, more comes
        got += len(more)
    assert got == 20


def test_a_consumer_has_at_most_max_pending(desk):
    desk.broker.publish_many("a", list(range(10)))
    member = desk.join(max_pending=4)
    assert len(given(member)) == 4

    desk.consumers.ack("c", [0, 1])

    assert given(member) == [(4, 1), (5, 1)]


def test_a_member_that_goes_gives_back_at_once(desk):
    desk.broker.publish_many("a", [1, 2])
    first, second = desk.join(max_in_flight=1), desk.join(max_in_flight=10)
    assert (given(first), given(second)) == ([(0, 1)], [(1, 1)])

    first.close()

    assert given(second) == [(0, 2)]


def test_what_a_member_never_saw_is_not_counted_as_a_delivery(desk):
    desk.broker.publish_many("a", [1, 2])
    first = desk.join()
    settle()
    first.close()

    assert given(desk.join()) == [(0, 1), (1, 1)]


def test_of_an_exclusive_consumer_only_the_first_member_is_active(desk):
    desk.broker.publish_many("a", [1, 2])
    first = desk.join(mode="exclusive", max_in_flight=1)
    second = desk.join()
    assert (given(first), given(second)) == ([(0, 1)], [])
    assert [one["active"] for one in desk.describe()["members"]] == [True, False]

    first.close()

    assert given(second) == [(0, 2), (1, 1)]


def test_messages_with_one_key_are_out_one_at_a_time_and_in_order(desk):
    desk.broker.publish_many("a", list(range(6)), keys=["x", "x", "y", None, "x", None])
    members = [desk.join(mode="key_ordered") for _ in range(2)]
    assert sorted(given(members[0]) + given(members[1])) == [(0, 1), (2, 1), (3, 1), (5, 1)]

    desk.consumers.nack("c", 0)
    assert sorted(given(members[0]) + given(members[1])) == [(0, 2)]
    desk.consumers.ack("c", 0)
    assert sorted(given(members[0]) + given(members[1])) == [(1, 1)]
    desk.broker.publish_many("a", ["more"] * 2, keys=["x", "y"])
    assert sorted(given(members[0]) + given(members[1])) == []
    desk.consumers.ack("c", [1, 2])
    assert sorted(given(members[0]) + given(members[1])) == [(4, 1), (7, 1)]


def test_a_key_is_the_same_in_all_topics(desk):
    desk.broker.publish("a.x", 1, key="k")
    desk.broker.publish("a.y", 2, key="k")
    member = desk.join(patterns="a.*", mode="key_ordered")

    assert given(member) == [(0, 1)]
    desk.consumers.ack("c", 0)
    assert given(member) == [(1, 1)]


def test_a_member_that_comes_back_claims_what_it_holds(desk):
    desk.broker.publish_many("a", [1, 2, 3])
    first = desk.join()
    held = [[one.offset, one.token] for one in taken(first)]
    first.close()
    desk.consumers.ack("c", [held[0]])

    second = desk.join(held=held)

    assert second.held == held[1:]
    assert given(second) == []
    assert second.agreed() == {"consumer": "c", "max_in_flight": 256, "ack_wait_s": 30.0, "held": held[1:],
                               "paused": False}
    assert desk.consumers.ack("c", held[1:]) == 2


def test_what_was_given_to_another_meanwhile_is_not_claimed(desk):
    desk.broker.publish("a", 1)
    first = desk.join()
    held = [[one.offset, one.token] for one in taken(first)]
    first.close()
    second = desk.join()
    assert given(second) == [(0, 2)]

    assert desk.join(held=held).held == []


def test_what_expired_in_a_member_s_queue_goes_to_others(desk):
    desk.broker.publish_many("a", [1, 2])
    stuck = desk.join()
    settle()
    free = desk.join()

    desk.advance(31)

    assert sorted(given(free) + given(stuck)) == [(0, 1), (1, 1)]


def test_what_was_acknowledged_by_others_does_not_come_out_of_a_queue(desk):
    desk.broker.publish_many("a", list(range(6)))
    member = desk.join()
    settle()

    desk.consumers.ack("c", [0, 2, 3])

    assert given(member) == [(1, 1), (4, 1), (5, 1)]


def test_a_member_is_iterated_and_waits_for_more(desk):
    desk.broker.publish("a", 1)
    member = desk.join()
    got = []

    def work():
        for delivery in member:
            got.append(delivery.payload)
            delivery.ack()
    worker = gevent.spawn(work)
    settle()
    desk.broker.publish("a", 2)
    settle()
    member.close()
    worker.join()

    assert got == [1, 2]
    assert desk.describe()["acked"] == 2


def test_waiting_for_a_hand_out_ends_with_the_time_and_with_the_member(desk):
    member = desk.join()

    with pytest.raises(RequestTimeout):
        member.get(0.001)
    assert desk.broker.unsubscribe(member.id)
    with pytest.raises(Unsubscribed):
        member.get()
    assert desk.describe()["members"] == []


def test_members_are_listed_among_the_subscriptions(desk):
    member = desk.join(member="worker 7", name="me")

    listed, = desk.broker.describe_subscriptions()
    assert (listed["id"], listed["consumer"], listed["member"]) == (member.id, "c", "worker 7")
    assert listed["policy"] == "consumer"
    assert desk.describe()["members"] == [
        {"id": member.id, "member": "worker 7", "name": "me", "in_flight": 0, "active": True}]


def test_members_of_a_draining_server_end_and_their_acks_are_taken(desk):
    desk.broker.publish("a", 1)
    member = desk.join()
    delivery, = taken(member)

    desk.broker.drain(1)

    with pytest.raises(ServerDraining):
        member.get()
    with pytest.raises(ServerDraining):
        desk.join()
    assert delivery.ack() == 1


def test_options_of_subscriptions_and_of_members_are_not_mixed(desk):
    for options in ({"policy": "drop"}, {"until": "end"}, {"max_messages": 5}, {"epoch": "x"}, {"held": [5]},
                    {"max_in_flight": 0}, {"member": 5}, {"start": "last"}):
        with pytest.raises(InvalidOption):
            desk.broker.subscribe("a", consumer="c", **options)
    with pytest.raises(InvalidOption):
        desk.broker.subscribe("a", max_in_flight=5)
    assert desk.consumers.list() == []


def test_an_error_in_one_consumer_does_not_tear_the_others(desk, monkeypatch):
    good, bad = desk.join("good"), desk.join("bad")
    monkeypatch.setattr(bad.consumer, "deal", lambda now: 1 / 0)
    bad.on_ready = good.on_ready = lambda: 1 / 0

    desk.broker.publish("a", 1)

    assert given(good) == [(0, 1)]


def test_what_is_removed_under_a_consumer_is_told_and_is_not_pending_any_more(desk):
    for n in range(4):
        desk.broker.publish("a", n)
    member = desk.join(max_in_flight=2)
    assert given(member) == [(0, 1), (1, 1)]

    desk.broker.store.trim(member.wanted, 1)

    assert told(member) == [Gap(0, 1, 1, "retention")]
    assert desk.describe()["pending"] == 2      # there was room for one more


def test_a_gap_that_nobody_was_there_to_hear_is_told_to_the_next(disk):
    for n in range(4):
        disk.broker.publish("a", n)
    member = disk.join(max_in_flight=2, retention="gap")
    assert given(member) == [(0, 1), (1, 1)]
    member.close()

    disk.broker.store.trim(member.wanted, 3)
    settle()
    disk.reopen()

    member = disk.join()
    gaps = told(member)
    assert [(gap.first, gap.why) for gap in gaps] == [(0, "retention"), (2, "retention")]
    assert gaps[-1].next == 3


@pytest.mark.parametrize("max_in_flight", [1, 256])
@pytest.mark.parametrize("expires", [None, [1 << 52, None]])
@pytest.mark.parametrize("mode", ["shared", "key_ordered"])
def test_what_is_damaged_so_that_it_cannot_be_opened_is_told_by_a_gap_and_the_others_go_on(
        mode, expires, max_in_flight):
    batch = Batch.of("a", ["x", "yy"], expires=expires)
    with Broker.open("memory:") as broker:
        broker.append_and_wait(Append([batch]))
        batch.packed = batch.packed[:4] + b"\xff" + batch.packed[5:]       # of the number of messages
        broker.publish("a", "after", key="k")
        member = broker.subscribe("a", consumer="c", start="earliest", mode=mode, max_in_flight=max_in_flight)

        items = member.get(10), member.get(10)

        assert items[0] == Gap(0, 2, 2, "damaged")
        assert [message.offset for message in items[1].messages()] == [2]


@pytest.mark.parametrize("waiting", [1, 2])
def test_what_was_damaged_between_two_deliveries_is_told_by_a_gap_and_the_others_come_again(waiting):
    batch = Batch.of("a", ["x", "yy"])
    with Broker.open("memory:") as broker:
        broker.append_and_wait(Append([batch]))
        broker.publish("a", "after")
        member = broker.subscribe("a", consumer="c", start="earliest")
        delivered = member.get(10), member.get(10)
        assert sum(one.count for one in delivered) == 3
        batch.packed = batch.packed[:4] + b"\xff" + batch.packed[5:]
        broker.consumers.nack("c", [*range(waiting), 2])

        items = member.get(10), member.get(10)

        assert items[0] == Gap(0, waiting, waiting, "damaged")
        assert [message.offset for message in items[1].messages()] == [2]
