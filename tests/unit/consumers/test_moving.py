"""What is given back or extended in one moment: how many calls that took makes no difference to what is kept."""

import gevent
import pytest

from tests.unit.consumers.desk import given, taken
from tests.unit.consumers.test_races import Stage
from zstreampub.errors import StoreFull


@pytest.fixture
def stage(clock):
    return Stage()


def _say(verb, deliveries, seconds):
    """Say *verb* of each by a call of its own, all in one turn of the hub."""
    answers = [gevent.spawn(getattr(one, verb), seconds) for one in deliveries]
    return [answer.get() for answer in answers]


def _leases(desk):
    pending = desk.consumers.by_name["c"].state.pending
    return len({id(lease) for lease in pending.values()})


@pytest.mark.parametrize("verb, seconds", [("nack", 5), ("nack", 0), ("extend", 40)])
def test_they_share_a_lease(desk, verb, seconds):
    desk.broker.publish_many("a", list(range(10)))
    deliveries = taken(desk.join(max_in_flight=10))
    desk.consumers.pause("c")

    assert _say(verb, deliveries[::2], seconds) == [1] * 5

    assert _leases(desk) == 2


def test_a_call_that_names_many_one_by_one_does_not_make_a_lease_for_each(desk):
    desk.broker.publish_many("a", list(range(10)))
    deliveries = taken(desk.join(max_in_flight=10))

    assert desk.consumers.extend("c", [[one.offset, one.token] for one in deliveries], 40) == 10

    assert _leases(desk) == 1


def test_what_differs_does_not_share(desk):
    desk.broker.publish_many("a", list(range(5)))
    one, two, three, four, five = taken(desk.join(max_in_flight=5))

    calls = [gevent.spawn(one.nack, 5), gevent.spawn(two.nack, 6), gevent.spawn(three.nack, 5, "no"),
             gevent.spawn(four.nack, 5, "no"), gevent.spawn(five.extend, 5)]
    gevent.joinall(calls, raise_error=True)

    assert _leases(desk) == 4
    reasons = [desk.consumers.by_name["c"].state.pending[offset].error for offset in range(4)]
    assert reasons == ["", "", "no", "no"]


def test_they_come_again_when_they_are_due_also_after_a_restart(disk):
    disk.broker.publish_many("a", list(range(10)))
    deliveries = taken(disk.join(max_in_flight=10))
    _say("nack", deliveries[::2], 50)
    disk.consumers.ack("c", [offset for offset in range(10) if offset % 2])
    disk.reopen()

    member = disk.join(max_in_flight=10)
    disk.advance(49)
    assert given(member) == []
    disk.advance(2)

    assert given(member) == [(offset, 2) for offset in range(0, 10, 2)]


def test_one_that_joins_others_which_are_settled_already_comes_again(desk):
    desk.broker.publish_many("a", [1, 2])
    member = desk.join(max_in_flight=2)
    first, second = taken(member)
    gone = desk.consumers.by_name["c"].state

    calls = [gevent.spawn(first.nack, 5), gevent.spawn(first.ack), gevent.spawn(gone._sweep),
             gevent.spawn(second.nack, 5)]
    gevent.joinall(calls, raise_error=True)
    desk.advance(6)

    assert given(member) == [(1, 2)]


def test_what_cannot_be_written_is_as_it_was(stage, clock):
    stage.done(stage.broker.publish_many, "a", [1, 2, 3])
    member = stage.join()
    one, two, three = member.take().messages()

    calls = [stage.call(one.nack, 50), stage.call(three.nack, 50)]
    stage.store.fail()
    stage.store.tell()
    for call in calls:
        with pytest.raises(StoreFull):
            call.get()

    assert member.in_flight == 3
    assert stage.done(stage.consumers.ack, "c", [[0, one.token], [1, two.token], [2, three.token]]) == 3
