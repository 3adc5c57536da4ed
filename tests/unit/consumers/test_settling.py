"""Settling deliveries: what counts, what is stale, and what comes again."""

import gc

import pytest

from tests.unit.consumers.desk import given, settle, taken
from zstreampub.consumers.lease import Mark
from zstreampub.errors import InvalidOption, StaleDelivery, UnknownConsumer


def named(deliveries):
    return [[delivery.offset, delivery.token] for delivery in deliveries]


def test_what_is_acknowledged_is_settled_and_does_not_come_again(desk):
    desk.broker.publish_many("a", [1, 2, 3])
    member = desk.join()
    got = taken(member)

    assert desk.consumers.ack("c", named(got[:2])) == 2
    desk.advance(31)

    assert given(member) == [(2, 2)]
    assert (desk.describe()["floor"], desk.describe()["acked"]) == (2, 2)


def test_deliveries_are_named_by_offset_by_token_or_by_range(desk):
    desk.broker.publish_many("a", list(range(10)))
    member = desk.join()
    token = taken(member)[0].token

    assert desk.consumers.ack("c", 0) == 1
    assert desk.consumers.ack("c", [1, [2, token], [3, 6, token], 7.0]) == 6
    assert [one["offset"] for one in desk.consumers.browse("c")] == [6, 8, 9]


def test_an_ack_up_to_an_offset_settles_all_that_was_delivered_below_it(desk):
    desk.broker.publish_many("a", list(range(10)))
    member = desk.join(max_in_flight=6)
    assert len(taken(member)) == 6

    assert desk.consumers.ack("c", [], before=4) == 4
    assert desk.consumers.ack("c", [8], before=6) == 3
    assert desk.describe()["acked"] == 7


def test_an_ack_up_to_an_offset_of_very_many_is_done_in_turns(desk, monkeypatch):
    monkeypatch.setattr("zstreampub.consumers.settling.MAX_DELIVERIES", 3)
    desk.broker.publish_many("a", list(range(10)))
    desk.join()
    settle()

    assert desk.consumers.ack("c", [], before=9) == 9


def test_an_ack_that_is_repeated_is_fine_and_not_counted(desk):
    desk.broker.publish("a", 1)
    delivery, = taken(desk.join())

    assert delivery.ack() == 1
    assert delivery.ack() == 0
    assert desk.consumers.ack("c", 0) == 0


def test_an_ack_that_is_repeated_before_the_first_is_on_disk_waits_for_it(desk):
    desk.broker.publish("a", 1)
    delivery, = taken(desk.join())
    answers = []

    for _ in range(2):
        desk.consumers.settle("ack", "c", named([delivery]), None, lambda *answer: answers.append(answer))
    assert answers == []
    settle()

    assert answers == [(1, None), (0, None)]


def test_an_ack_of_an_older_delivery_is_stale_and_all_else_is_done(desk):
    desk.broker.publish_many("a", [1, 2])
    member = desk.join()
    first = taken(member)
    desk.advance(31)
    second = taken(member)

    with pytest.raises(StaleDelivery) as refused:
        desk.consumers.ack("c", [*named(first[:1]), *named(second[1:])])

    assert refused.value.offsets == [0]
    assert [delivery.delivery for delivery in second] == [2, 2]
    assert desk.describe()["pending"] == 1
    assert desk.consumers.ack("c", [0]) == 1        # without a token: whatever delivery is current


def test_what_was_never_delivered_cannot_be_acknowledged(desk):
    desk.broker.publish_many("a", [1, 2])
    desk.join(max_in_flight=1)
    settle()

    with pytest.raises(StaleDelivery) as refused:
        desk.consumers.ack("c", [0, 1, 99])

    assert refused.value.offsets == [1, 99]


def test_a_nack_gives_back_at_once_or_after_a_delay(desk):
    desk.broker.publish_many("a", [1, 2])
    member = desk.join()
    now, later = taken(member)

    assert now.nack() == 1
    assert later.nack(delay_s=5) == 1

    assert given(member) == [(0, 2)]
    desk.advance(4)
    assert given(member) == []
    desk.advance(2)
    assert given(member) == [(1, 2)]


def test_what_nobody_has_looked_at_comes_again_at_once_and_does_not_count_as_delivered(desk):
    desk.broker.publish_many("a", [1, 2])
    member = desk.join(max_deliveries=1, backoff_s=[100])
    _, unseen = taken(member)

    for _ in range(2):      # said twice, as after a lost connection, it counts once
        assert desk.consumers.nack("c", [[unseen.offset, unseen.token]], unseen=True, member=member.id) == 1

    assert taken(member) == []      # it is about to leave
    again, = taken(desk.join())
    assert (again.offset, again.delivery) == (1, 1)
    assert again.token != unseen.token
    with pytest.raises(StaleDelivery):
        unseen.ack()
    assert desk.describe()["redelivered"] == 0


def test_what_a_member_that_leaves_has_not_taken_comes_back_at_once_and_it_is_given_nothing_more(desk):
    desk.broker.publish_many("a", [0, 1])
    desk.broker.publish_many("a", [2, 3])
    member = desk.join(max_deliveries=1)
    settle()
    seen = member.take()        # the rest of that hand-out waits for room on the wire
    assert (seen.batch.first, seen.batch.next) == (0, 2)

    assert desk.consumers.nack("c", [], unseen=True, member=member.id) == 2
    desk.broker.publish_many("a", [4])

    assert taken(member) == []
    assert given(desk.join()) == [(2, 1), (3, 1), (4, 1)]
    assert desk.consumers.ack("c", [[seen.batch.first, seen.token]]) == 1, "what it has is its own until it has left"


def test_who_does_not_say_that_it_leaves_may_be_given_again_what_it_has_given_back_unseen(desk):
    desk.broker.publish("a", 1)
    member = desk.join(max_deliveries=1)
    delivery, = taken(member)

    assert desk.consumers.nack("c", named([delivery]), unseen=True) == 1

    assert given(member) == [(0, 1)]
    with pytest.raises(StaleDelivery):      # that names the delivery before
        desk.consumers.nack("c", named([delivery]), unseen=True)


def test_of_two_that_go_by_one_name_the_one_that_leaves_leaves(desk):
    gone, there = desk.join(member="worker"), desk.join(member="worker")

    desk.consumers.nack("c", [], unseen=True, member=gone.id)
    desk.broker.publish("a", 1)

    assert taken(gone) == []
    assert given(there) == [(0, 1)]


def test_who_has_claimed_what_another_gives_back_unseen_is_not_taken_to_leave(desk):
    desk.broker.publish_many("a", [1, 2])
    gone = desk.join(max_in_flight=1)
    delivery, = taken(gone)
    heir = desk.join(max_in_flight=2, held=named([delivery]))

    desk.consumers.nack("c", named([delivery]), unseen=True, member=gone.id)

    assert taken(gone) == []
    assert given(heir) == [(0, 1), (1, 1)]


@pytest.mark.parametrize("verb", ["ack", "nack", "reject", "extend"])
def test_what_was_given_back_unseen_is_not_settled_by_its_token_any_more(desk, verb):
    desk.broker.publish("a", 1)
    member = desk.join()
    delivery, = taken(member)
    desk.consumers.nack("c", named([delivery]), unseen=True, member=member.id)

    with pytest.raises(StaleDelivery):
        getattr(desk.consumers, verb)("c", named([delivery]), *[100] * (verb == "extend"))
    with pytest.raises(InvalidOption, match="number of a delivery"):    # as it is noted within
        getattr(desk.consumers, verb)("c", [[0, -delivery.token]], *[100] * (verb == "extend"))

    assert given(desk.join()) == [(0, 1)]


def test_what_was_given_back_unseen_is_not_claimed_by_its_token_any_more(desk):
    desk.broker.publish("a", 1)
    member = desk.join()
    delivery, = taken(member)
    desk.consumers.nack("c", named([delivery]), unseen=True, member=member.id)

    member = desk.join(held=named([delivery]))

    assert member.held == []
    assert given(member) == [(0, 1)]


def test_what_has_lapsed_and_waits_comes_at_once_too_when_it_was_unseen(desk):
    desk.broker.publish("a", 1)
    member = desk.join(max_deliveries=1000, backoff_s=[100], jitter=0)
    delivery, = taken(member)
    desk.advance(31)
    assert given(member) == []

    assert desk.consumers.nack("c", named([delivery]), unseen=True) == 1

    assert given(member) == [(0, 1)]


def test_a_number_is_taken_back_once_for_each_delivery(desk):
    desk.broker.publish("a", 1)
    first = desk.join(max_in_flight=1)
    taken(first)
    desk.consumers.nack("c", 0)
    assert given(first) == [(0, 2)]

    desk.consumers.nack("c", 0, unseen=True, member=first.id)
    desk.consumers.extend("c", 0, 10)       # of the delivery that counts, by whomever
    desk.consumers.nack("c", 0, unseen=True, member=first.id)

    assert given(desk.join()) == [(0, 2)]


def test_what_is_unseen_has_no_reason_and_no_delay(desk):
    desk.broker.publish("a", 1)
    taken(desk.join())

    for options in ({"delay_s": 1}, {"reason": "late"}, {"unseen": 1}, {"unseen": False, "member": "m"}, {"member": 5}):
        with pytest.raises(InvalidOption):
            desk.consumers.nack("c", 0, **{"unseen": True, **options})

    assert desk.describe()["in_flight"] == 1


def test_without_a_delay_the_backoff_of_the_consumer_decides(desk):
    desk.broker.publish("a", 1)
    member = desk.join(backoff_s=[1, 10], jitter=0)
    seen = []

    for _ in range(3):
        seen += [desk.clock.seconds - 1000] * len(given(member))
        desk.consumers.nack("c", 0)
        for _ in range(11):
            desk.advance(1)
            if (found := taken(member)):
                seen.append(desk.clock.seconds - 1000)
                desk.consumers.nack("c", [[found[0].offset, found[0].token]])

    assert seen[:4] == [0, 1, 11, 21]


def test_what_is_extended_stays_with_its_member(desk):
    desk.broker.publish_many("a", [1, 2])
    member = desk.join()
    first, second = taken(member)

    desk.advance(20)
    assert first.extend(40) == 1
    desk.advance(20)
    assert given(member) == [(1, 2)]
    desk.advance(21)

    assert given(member) == [(0, 2)]
    with pytest.raises(StaleDelivery):
        second.extend(10)


def test_an_ack_that_comes_after_the_time_counts_if_nobody_else_has_the_message(desk):
    desk.broker.publish("a", 1)
    member = desk.join()
    delivery, = taken(member)
    member.close()
    desk.advance(31)

    assert delivery.ack() == 1


def test_wrong_calls_are_refused_before_anything_is_done(desk):
    desk.broker.publish("a", 1)
    desk.join()
    settle()

    for deliveries in ("0", [[0]], [[1, 0, 5]], [-1], [0, 1 << 53], [[0, 1, 2, 3]], [True], [[0, 1 << 40, 1]], {}):
        with pytest.raises(InvalidOption):
            desk.consumers.ack("c", deliveries)
    with pytest.raises(InvalidOption):
        desk.consumers.nack("c", [0], delay_s=-1)
    with pytest.raises(InvalidOption):
        desk.consumers.nack("c", [0], reason=5)
    with pytest.raises(InvalidOption):
        desk.consumers.extend("c", [0], None)
    with pytest.raises(UnknownConsumer):
        desk.consumers.ack("other", [0])
    assert desk.describe()["pending"] == 1


def test_whoever_watches_an_offset_is_told_who_acknowledged_it(desk):
    desk.broker.publish_many("a", list(range(100)))
    for name in ("c", "d"):
        desk.join(name)
    settle()
    told, everything = [], []
    desk.consumers.watch(5, told.append)
    desk.consumers.on_acked.append(lambda name, runs: everything.append((name, runs)))

    desk.consumers.ack("c", list(range(10)))
    desk.consumers.ack("d", [5, 7])
    desk.consumers.unwatch(5, told.append)

    assert told == ["c", "d"]
    assert everything == [("c", [0, 10]), ("d", [5, 6, 7, 8])]
    assert desk.consumers.wanting("a") == ["c", "d"]


def test_what_was_settled_is_let_go_of_without_a_garbage_collection(desk):
    desk.broker.publish_many("a", list(range(10)))
    got = taken(desk.join())
    gc.collect()
    gc.disable()
    before = marks()
    try:
        desk.consumers.ack("c", named(got[:5]))
        desk.consumers.nack("c", named(got[5:]))
        settle()

        assert marks() <= before
    finally:
        gc.enable()


def marks():
    """Return those leases of settled messages that are in memory still."""
    return {one for one in gc.get_objects() if type(one) is Mark and one.size}
