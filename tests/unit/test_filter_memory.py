"""What a filter before a store remembers is in the store, and fits the messages that are there, whatever happens."""

import pytest

from tests.handing_over import Delivered, Loop, begun, message, offsets
from zstreampub import Chain, FifoStore, LatestStore
from zstreampub.errors import InvalidOption, MessageTooLarge, SpoolFull, StoreClosed, StoreCorrupt, StoreFull
from zstreampub.filters import rates
from zstreampub.receive.marks import NoMark, OffsetMark, PendingMark
from zstreampub.receive.verdicts import Stopped
from zstreampub.spool.memory import MAX_KEY_BYTES, MAX_RECORD_BYTES

THIRDS = {"every": 3}


@pytest.fixture(params=[FifoStore, LatestStore])
def open_store(request, tmp_path):
    opened = []

    def open_store(**options):
        opened.append(request.param(tmp_path / "store", **options))
        return opened[-1]
    yield open_store
    for store in opened:
        store.close()


@pytest.fixture
def store(tmp_path):
    with FifoStore(tmp_path / "store") as store:
        yield store


def at(*offsets):
    return [message(offset, {"at": offset}) for offset in offsets]


# --- the hand-over -----------------------------------------------------------------------------


def test_another_receiver_goes_on_counting_where_the_last_one_was(store):
    for first in range(0, 20, 4):
        sink, _ = begun(store, OffsetMark("r"), Loop(), Chain(THIRDS))
        sink.take([message(offset) for offset in range(first, first + 4)])
        sink.finish()

    assert offsets(store) == [0, 3, 6, 9, 12, 15, 18]


def test_what_passed_and_was_not_stored_for_a_stop_is_judged_again_as_if_it_came_first(tmp_path):
    chain = Chain({"min_period": 10, "by": "payload.at"})
    with FifoStore(tmp_path / "store", max_messages=1) as store:
        sink, _ = begun(store, OffsetMark("r"), Loop("stop"), chain)
        with pytest.raises(Stopped):
            sink.take(at(0, 5, 10, 12))
        sink.finish()
        assert (store.pop_front(), store.mark("r")["next"]) == (True, 6)

        again, _ = begun(store, OffsetMark("r"), Loop(), chain)
        again.take(at(10, 12))

        assert offsets(store) == [10]


def test_what_is_given_up_counts_as_passed(tmp_path):
    with FifoStore(tmp_path / "store", max_messages=1) as store:
        loop = Loop("skip")
        sink, _ = begun(store, OffsetMark("r"), loop, Chain(THIRDS))
        sink.take([message(offset) for offset in range(5)])
        sink.finish()
        assert loop.asked == [(SpoolFull, 3)]
        store.pop_front()

        begun(store, OffsetMark("r"), Loop(), Chain(THIRDS))[0].take([message(5), message(6)])

        assert offsets(store) == [6]


def test_of_a_member_what_comes_again_after_a_crash_counts_once(store):
    begun(store, PendingMark("r"), Loop(), Chain(THIRDS))[0].take([Delivered(offset) for offset in range(4)])
    again = [Delivered(3), Delivered(4), Delivered(5), Delivered(6)]

    begun(store, PendingMark("r"), Loop(), Chain(THIRDS))[0].take(again)

    assert offsets(store) == [0, 3, 6]


def test_without_a_place_to_go_on_from_the_filter_remembers_all_the_same(store):
    begun(store, NoMark(), Loop(), Chain(THIRDS))[0].take([message(0), message(1)])

    begun(store, NoMark(), Loop(), Chain(THIRDS))[0].take([message(2), message(3)])

    assert offsets(store) == [0, 3]


def test_two_receivers_of_one_store_remember_each_its_own(store):
    for name in "rs":
        begun(store, OffsetMark(name), Loop(), Chain(THIRDS), name)[0].take([message(0), message(1)])

    for name in "rs":
        begun(store, OffsetMark(name), Loop(), Chain(THIRDS), name)[0].take([message(2), message(3)])

    assert offsets(store) == [0, 0, 3, 3]


def test_what_other_filters_remembered_is_forgotten(store):
    begun(store, OffsetMark("r"), Loop(), Chain(THIRDS))[0].take([message(0)])
    assert len(store.memory("r")) == 1

    sink, _ = begun(store, OffsetMark("r"), Loop(), Chain({"every": 2, "per": "topic"}))
    sink.take([message(1)])

    assert len(store.memory("r")) == 1
    assert begun(store, OffsetMark("r"), Loop(), Chain(THIRDS))[0].take([message(2)])
    assert offsets(store) == [0, 1, 2], "it began anew"


def test_a_group_that_is_forgotten_is_forgotten_in_the_store(store, monkeypatch):
    monkeypatch.setattr(rates, "MAX_GROUPS", 2)
    sink, _ = begun(store, OffsetMark("r"), Loop(), Chain({"every": 2, "per": "topic"}))

    for offset, topic in enumerate("abc"):
        one = message(offset)
        one.topic = topic
        sink.take([one])

    assert len(store.memory("r")) == 2


def test_a_chain_with_a_path_keeps_it_there(store, tmp_path):
    with Chain(THIRDS, tmp_path / "chain") as chain:
        begun(store, OffsetMark("r"), Loop(), chain)[0].take([message(0)])

    assert store.memory("r") == {}


def test_records_of_something_else_are_refused(store):
    store.add_many((), memory=("r", {b"key": b"\xc1"}))

    with pytest.raises(StoreCorrupt, match="another name"):
        begun(store, OffsetMark("r"), Loop(), Chain(THIRDS))


# --- the stores --------------------------------------------------------------------------------------


def test_a_memory_is_kept_with_the_messages_and_none_removes_from_it(open_store):
    store = open_store()
    store.add_many([b"one"], ("m", 1), ("r", {b"a": b"1", b"b": b"2"}))
    assert store.add_many((), memory=("r", {b"a": None, b"c": b"3"})) == 0
    store.add_many((), memory=("other", {b"a": b"4"}))
    store.close()

    store = open_store()

    assert store.memory("r") == {b"b": b"2", b"c": b"3"}
    assert store.memory("other") == {b"a": b"4"}
    assert (store.memory("nobody"), store.mark("m"), len(store)) == ({}, 1, 1)


def test_a_memory_stays_as_it_is_if_its_message_is_refused(open_store):
    store = open_store(max_bytes=10)
    store.add_many([b"one"], memory=("r", {b"a": b"1"}))

    with pytest.raises(MessageTooLarge):
        store.add_many([bytes(20)], memory=("r", {b"a": b"2"}))

    assert store.memory("r") == {b"a": b"1"}


def test_a_memory_stays_as_it_is_if_there_is_no_room_for_its_message(tmp_path):
    with FifoStore(tmp_path / "store", max_messages=1) as store:
        store.add_many([b"one"], memory=("r", {b"a": b"1"}))

        with pytest.raises(SpoolFull):
            store.add_many([b"two"], memory=("r", {b"a": b"2"}))

        assert store.memory("r") == {b"a": b"1"}


def test_a_memory_that_finds_no_room_on_the_disk_leaves_the_room_for_removing(tmp_path):
    with FifoStore(tmp_path / "store", max_disk_bytes=20 << 20) as store:
        store.add(b"one")
        with pytest.raises(StoreFull):
            for number in range(40):
                store.add_many((), memory=("r", {b"%d-%d" % (number, at): bytes(MAX_RECORD_BYTES)
                                                 for at in range(500)}))
        assert store.pop_front() and len(store) == 0


@pytest.mark.parametrize("memory", [
    7, ("r",), ("r", 7), ("", {}), (7, {}), ("r", {"text": b""}), ("r", {b"": b""}), ("r", {b"a": 7}),
    ("r", {bytes(MAX_KEY_BYTES + 1): b""}), ("r", {b"a": bytes(MAX_RECORD_BYTES + 1)})])
def test_what_is_no_memory_is_refused_with_its_message(open_store, memory):
    store = open_store()

    with pytest.raises(InvalidOption, match="memory"):
        store.add_many([b"one"], memory=memory)

    assert len(store) == 0


def test_what_is_at_the_limit_is_kept(open_store):
    store = open_store()
    largest = {bytes(MAX_KEY_BYTES): bytes(MAX_RECORD_BYTES), b"a": b""}

    store.add_many((), memory=("r", largest))

    assert store.memory("r") == largest


def test_a_closed_store_says_so(open_store):
    store = open_store()
    store.close()

    with pytest.raises(StoreClosed):
        store.memory("r")
