"""What a store keeps of where a receiver has been, and hand-over where the store fails."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.handing_over import Delivered, Loop, begun, message, offsets
from zstreampub import FifoStore
from zstreampub.errors import BatchTooLarge, EpochMismatch, InvalidPayload, SpoolFull, StoreCorrupt
from zstreampub.receive.handover import Judged
from zstreampub.receive.marks import OffsetMark, PendingMark, _packed, _unpacked
from zstreampub.receive.verdicts import Stopped


@pytest.fixture
def store(tmp_path):
    with FifoStore(tmp_path / "store") as store:
        yield store


def test_the_store_knows_where_a_subscription_goes_on(store):
    sink, place = begun(store, OffsetMark("r"), Loop())
    assert place is None

    sink.take([message(3), message(7)])

    assert store.mark("r") == {"epoch": "e", "next": 8}
    assert begun(store, OffsetMark("r"), Loop())[1] == (8, "e")


def test_what_is_in_the_store_already_is_not_stored_again(store):
    begun(store, OffsetMark("r"), Loop())[0].take([message(3), message(7)])

    begun(store, OffsetMark("r"), Loop())[0].take([message(7), message(8)])

    assert offsets(store) == [3, 7, 8]


def test_what_the_filter_leaves_out_moves_the_mark_at_the_end(store):
    sink, _ = begun(store, OffsetMark("r"), Loop(), lambda one: one if one.offset < 5 else None)
    sink.take([message(3), message(7)])
    sink.take([message(8)])
    assert store.mark("r") == {"epoch": "e", "next": 8}

    sink.finish()

    assert store.mark("r") == {"epoch": "e", "next": 9}
    assert offsets(store) == [3]


def test_one_message_that_cannot_be_stored_costs_no_other(store):
    loop = Loop("skip")
    sink, _ = begun(store, OffsetMark("r"), loop)

    sink.take([message(1), message(2, payload=object()), message(3)])

    assert loop.asked == [(InvalidPayload, 2)]
    assert offsets(store) == [1, 3]
    assert store.mark("r")["next"] == 4


def test_a_stop_leaves_the_mark_before_the_message_that_was_not_stored(tmp_path):
    with FifoStore(tmp_path / "store", max_messages=1) as store:
        loop = Loop("stop")
        sink, _ = begun(store, OffsetMark("r"), loop, lambda one: one if one.offset != 3 else None)

        with pytest.raises(Stopped):
            sink.take([message(1), message(2), message(3)])
        sink.finish()

        assert loop.asked == [(SpoolFull, 2)]
        assert (offsets(store), store.mark("r")["next"]) == ([1], 2)


def test_a_full_store_is_tried_again(tmp_path):
    with FifoStore(tmp_path / "store", max_messages=1) as store:
        loop = Loop("retry", "retry")
        loop.on_second_try = store.pop_front
        sink, _ = begun(store, OffsetMark("r"), loop)

        sink.take([message(1), message(2)])

        assert [one for _, one in loop.asked] == [2, 2]
        assert (offsets(store), store.mark("r")["next"]) == ([2], 3)


def test_a_member_acknowledges_what_is_stored_and_remembers_it_until_that_is_known(store):
    sink, _ = begun(store, PendingMark("r"), Loop())
    first, second = [Delivered(1), Delivered(2)], [Delivered(9)]

    sink.take(first)
    assert all(one.said for one in first)
    assert _unpacked(store.mark("r")["stored"]) == [1, 2]
    first[0].said.is_there = True
    sink.take(second)

    assert _unpacked(store.mark("r")["stored"]) == [2, 9]


def test_what_comes_again_after_a_crash_is_acknowledged_and_not_stored_again(store):
    begun(store, PendingMark("r"), Loop())[0].take([Delivered(1), Delivered(2)])
    again = [Delivered(1), Delivered(2), Delivered(3)]

    begun(store, PendingMark("r"), Loop())[0].take(again)

    assert offsets(store) == [1, 2, 3]
    assert all(one.said for one in again)


def test_what_the_server_has_as_settled_is_forgotten(store):
    begun(store, PendingMark("r"), Loop())[0].take([Delivered(1), Delivered(8)])

    begun(store, PendingMark("r"), Loop(floor=5))[0].take([Delivered(9)])

    assert _unpacked(store.mark("r")["stored"]) == [8, 9]


def test_a_member_waits_for_answers_where_the_mark_has_no_room(store):
    sink, _ = begun(store, PendingMark("r"), Loop())
    waited = [Delivered(at * 1000) for at in range(150)]
    sink.take(waited)

    sink.take([Delivered(at * 1000) for at in range(150, 300)])

    assert any(one.said.asked for one in waited)
    assert len(store) == 300


def test_more_than_a_mark_can_hold_is_stored_one_by_one(store):
    sink, _ = begun(store, PendingMark("r"), Loop())

    sink.take([Delivered(at * 1000) for at in range(400)])

    assert len(store) == 400


def test_a_group_that_no_mark_can_hold_is_refused_whole():
    mark = PendingMark("r")
    mark.check(SimpleNamespace(place=(None, "e")))

    with pytest.raises(BatchTooLarge):
        mark.after([Judged(Delivered(at * 1000), True, None) for at in range(400)])


def test_another_log_is_refused(store):
    begun(store, PendingMark("r"), Loop(epoch="e"))[0].take([Delivered(1)])

    with pytest.raises(EpochMismatch, match="another store, or another name"):
        begun(store, PendingMark("r"), Loop(epoch="other"))


def test_a_mark_of_another_kind_is_refused(store):
    begun(store, OffsetMark("r"), Loop())[0].take([message(1)])

    with pytest.raises(StoreCorrupt, match="another name"):
        PendingMark("r").restore(store)


@given(st.sets(st.integers(0, 300)))
def test_offsets_are_packed_and_unpacked(offsets):
    assert _unpacked(_packed(offsets)) == sorted(offsets)
