"""LatestStore: the newest message in all, of each topic or of each key."""

import gevent
import pytest

from tests.unit.spool.test_fifo_bounds import DEADLINE_S
from tests.unit.spool.test_threads import run_threads
from zstreampub import LatestStore, Message
from zstreampub.errors import (
    InvalidOption,
    InvalidPayload,
    MessageTooLarge,
    SpoolFull,
    StoreClosed,
    StoreCorrupt,
    StoreFull,
    StoreLocked,
    StoreVersion,
)


def message(topic, offset, key=None, payload="x"):
    return Message(topic, offset, 1.0, payload, key=key)


def test_the_newest_message_is_kept_and_new_until_it_was_looked_at(open_latest):
    store = open_latest()
    assert store.message() is None and not store.new_message

    store.add(b"one")
    store(b"two")

    assert store.new_message and len(store) == 1
    assert store.message() == b"two" and not store.new_message
    assert store.message() == b"two"
    store(b"three")
    assert store.new_message


def test_none_passes_through_it(open_latest):
    store = open_latest()

    assert store(None) is False

    assert not store.new_message and store


def test_what_is_there_is_new_after_opening(open_latest):
    with open_latest() as store:
        store.add({"a": 1}, mark=("next", 8))
        store.message()

    again = open_latest()

    assert again.new_message and again.message() == {"a": 1} and again.mark("next") == 8


def test_the_newest_of_each_topic(open_latest):
    with open_latest(by="topic") as store:
        store.add_many([message("a", 0), message("b", 1), message("a", 2)])
        store.add(message("c", 3))
        assert store.names() == ["b", "a", "c"] and sorted(store.new_names()) == ["a", "b", "c"]
        assert store.message("a").offset == 2 and store.message("d") is None
        assert store.message().offset == 3, "without a name it is the newest of all"
        assert store.new_names() == ["b"] and store.new_message

    again = open_latest(by="topic")
    assert again.names() == ["b", "a", "c"] and again.message("b") == message("b", 1)


def test_the_newest_of_each_key_and_of_those_without(open_latest):
    with open_latest(by="key") as store:
        store.add_many([message("a", 0, "k"), message("b", 1, b"k"), message("a", 2), message("c", 3, "k")])
        assert store.message("k").offset == 3 and store.message(b"k").offset == 1 and store.message().offset == 2

    assert open_latest(by="key").names() == [b"k", None, "k"]


def test_by_topic_or_key_it_takes_messages_of_zstreampub_only(open_latest):
    store = open_latest(by="key")

    with pytest.raises(InvalidPayload, match="by key"):
        store.add(b"bytes")

    assert len(store) == 0


def test_one_can_be_forgotten(open_latest):
    with open_latest(by="topic") as store:
        store.add_many([message("a", 0), message("b", 1)])
        assert store.forget("a") is True and store.forget("a") is False and store.forget("z") is False
        assert store.names() == ["b"] and store.new_names() == ["b"]
        store.add(message("a", 2))

    assert open_latest(by="topic").names() == ["b", "a"]


def test_at_the_bound_another_topic_is_refused_and_those_that_are_there_go_on(open_latest):
    store = open_latest(by="topic", max_messages=2)
    store.add_many([message("a", 0), message("b", 1)])

    with pytest.raises(SpoolFull, match="max_messages=2"):
        store.add(message("c", 2), mark=("next", 3))
    store.add(message("a", 3))

    assert store.names() == ["b", "a"] and store.message("a").offset == 3 and store.mark("next") is None


def test_at_the_bound_of_bytes_a_larger_message_is_refused(open_latest):
    store = open_latest(max_bytes=10)
    store.add(bytes(9))

    with pytest.raises(MessageTooLarge, match="at most 10"):
        store.add(bytes(10))

    assert store.size_bytes == 10 and store.message() == bytes(9)


def test_drop_oldest_forgets_what_had_no_message_for_longest(open_latest):
    with open_latest(by="topic", max_messages=2, when_full="drop_oldest") as store:
        store.add_many([message("a", 0), message("b", 1), message("a", 2)])
        store.add(message("c", 3))
        assert store.names() == ["a", "c"] and store.dropped == 1
        store.add_many([message(name, 4) for name in "defg"])

    again = open_latest(by="topic")
    assert again.names() == ["f", "g"] and again.dropped == 5 and len(again) == 2


def test_many_at_once_leave_the_newest_of_each(open_latest):
    store = open_latest(by="topic")

    def add(name):
        for number in range(20):
            store.add(message(name, number))

    green = [gevent.spawn(add, f"g{at}") for at in range(5)]
    run_threads(5, lambda at: add(f"t{at}"))
    gevent.joinall(green, raise_error=True, timeout=DEADLINE_S)

    assert len(store) == 10 and {store.message(name).offset for name in store.names()} == {19}
    assert store.state.serial < 200


def test_a_full_disk_refuses_and_what_is_there_can_be_replaced_once_there_is_room(place):
    with LatestStore(place, by="topic", max_disk_bytes=1 << 20, durability="relaxed") as store:
        with pytest.raises(StoreFull):
            for number in range(1000):
                store.add(message(f"t{number}", number, payload=bytes(10_000)), mark=("next", number + 1))
        kept = len(store)
        assert kept > 10 and store.mark("next") == kept

        for name in store.names()[:kept // 2]:
            assert store.forget(name)
        store.add(message("new", 5000, payload=bytes(10_000)))

    with LatestStore(place, by="topic") as again:
        assert len(again) == kept - kept // 2 + 1 and again.message("new").offset == 5000


def test_what_does_not_decode_is_told_and_can_be_replaced(open_latest):
    import json
    with open_latest() as store:
        store.add("text in msgpack is no JSON")
    store = open_latest(codec=json)

    with pytest.raises(StoreCorrupt, match="does not decode"):
        store.message()
    store.add({"a": 1})

    assert store.message() == {"a": 1}


@pytest.mark.parametrize("options", [{"by": "time"}, {"when_full": "block"}, {"max_messages": 0}, {"max_bytes": "x"},
                                     {"durability": "never"}])
def test_a_wrong_option_is_refused(place, options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        LatestStore(place, **options)


def test_a_store_is_open_once_and_says_when_it_is_closed(open_latest, place):
    store = open_latest()
    with pytest.raises(StoreLocked):
        LatestStore(place)
    store.close()

    for use in (store.message, lambda: store.add(1), lambda: store.new_message, lambda: len(store), store.names,
                store.new_names, lambda: store.forget("a"), lambda: store.set_mark("a", 1)):
        with pytest.raises(StoreClosed):
            use()


def test_a_fifo_store_is_left_as_it_is(open_fifo, place):
    open_fifo().close()

    with pytest.raises(StoreVersion, match="not a LatestStore"):
        LatestStore(place)

    assert open_fifo().front() is None
