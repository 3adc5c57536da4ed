"""A FifoStore at its bounds, and a disk that is full."""

import threading

import gevent
import pytest

from zstreampub import FifoStore
from zstreampub.disk.journal import Journal
from zstreampub.errors import BatchTooLarge, MessageTooLarge, SpoolFull, StoreClosed, StoreFull

DEADLINE_S = 20


def waits_for_room(store):
    """Wait until an add waits for room in *store*."""
    with gevent.Timeout(DEADLINE_S):
        while not store.blocked:
            gevent.sleep(0.001)


def in_thread(function, *arguments):
    """Run *function* in a native thread; return the thread and the list that its result or error comes into."""
    outcome = []

    def run():
        try:
            outcome.append(function(*arguments))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


# --- refuse -----------------------------------------------------------------------------


def test_at_the_bound_of_messages_the_next_is_refused_until_there_is_room(open_fifo):
    store = open_fifo(max_messages=3)
    store.add_many([1, 2, 3])

    with pytest.raises(SpoolFull, match=r"3 messages .*max_messages=3"):
        store.add(4)
    store.pop_front()
    store.add(5)

    assert list(store) == [2, 3, 5] and store.dropped == 0


def test_at_the_bound_of_bytes_the_next_is_refused_until_there_is_room(open_fifo):
    store = open_fifo(max_bytes=30)     # a message of n bytes takes n + 1
    store.add_many([bytes(9), bytes(9), bytes(9)])
    assert store.size_bytes == 30

    with pytest.raises(SpoolFull):
        store.add(b"")
    store.pop_front()
    store.add(bytes(9))

    assert store.size_bytes == 30 and len(store) == 3


def test_a_group_is_refused_as_a_whole(open_fifo):
    store = open_fifo(max_messages=3)
    store.add(1)

    with pytest.raises(SpoolFull):
        store.add_many([2, 3, 4])
    with pytest.raises(BatchTooLarge, match="smaller groups"):
        store.add_many([2, 3, 4, 5])

    assert list(store) == [1]


def test_a_message_over_the_bound_of_bytes_never_fits(open_fifo):
    for when_full in ("refuse", "drop", "drop_oldest", "block"):
        with open_fifo(max_bytes=10, when_full=when_full) as store:
            with pytest.raises(MessageTooLarge, match="at most 10 bytes"):
                store.add(bytes(10))
            assert len(store) == 0 and store.add(bytes(9))
            store.clear()


def test_bounds_hold_for_what_was_there_before(open_fifo):
    with open_fifo() as store:
        store.add_many(range(5))
    store = open_fifo(max_messages=3)

    with pytest.raises(SpoolFull):
        store.add(5)
    store.pop_many(3)
    store.add(6)

    assert list(store) == [3, 4, 6]


# --- drop, drop_oldest ---------------------------------------------------------------------


def test_drop_leaves_out_what_is_new_and_counts_it(open_fifo):
    with open_fifo(max_messages=3, when_full="drop") as store:
        assert store.add_many([1, 2]) == 2
        assert store.add_many([3, 4, 5], mark=("next", 5)) == 1
        assert store.add(6) is False

        assert list(store) == [1, 2, 3] and store.dropped == 3 and store.mark("next") == 5
        store.pop_front()
        assert store.add(7)

    assert open_fifo().dropped == 3


def test_drop_keeps_the_mark_of_what_it_leaves_out(open_fifo):
    with open_fifo(max_messages=1, when_full="drop") as store:
        store.add(1, mark=("next", 1))
        assert store.add(2, mark=("next", 2)) is False

    assert open_fifo().mark("next") == 2


def test_drop_oldest_makes_room_at_the_front_and_counts_it(open_fifo):
    with open_fifo(max_messages=3, when_full="drop_oldest") as store:
        store.add_many([1, 2, 3])
        assert store.add(4) and store.add_many([5, 6]) == 2

        assert list(store) == [4, 5, 6] and store.front() == 4 and store.dropped == 3

    again = open_fifo()
    assert list(again) == [4, 5, 6] and again.dropped == 3


def test_of_a_group_that_is_over_the_bounds_the_newest_stay(open_fifo):
    with open_fifo(max_messages=3, when_full="drop_oldest") as store:
        store.add(0)
        store.add_many(range(1, 9))
        assert list(store) == [6, 7, 8] and store.dropped == 6
        store.add(9)

    again = open_fifo()
    assert list(again) == [7, 8, 9] and again.front() == 7


def test_drop_oldest_drops_what_is_on_disk_only(open_fifo):
    with open_fifo() as store:
        for at in range(30):
            store.add_many([b"%06d" % (at * 1000 + one) + bytes(194) for one in range(1000)])
    store = open_fifo(max_messages=10_000, when_full="drop_oldest")

    store.add(b"030000")

    assert store.dropped == 20_001
    assert [int(value[:6]) for value in store] == list(range(20_001, 30_001))


def test_drop_oldest_at_the_bound_of_bytes(open_fifo):
    store = open_fifo(max_bytes=30, when_full="drop_oldest")
    store.add_many([b"a" * 9, b"b" * 9, b"c" * 9])

    store.add(b"d" * 15)

    assert list(store) == [b"c" * 9, b"d" * 15] and store.size_bytes == 26


# --- block ----------------------------------------------------------------------------------


def test_a_greenlet_waits_for_room_and_the_others_go_on(open_fifo):
    store = open_fifo(max_messages=2, when_full="block")
    store.add_many([1, 2])
    adding = gevent.spawn(store.add, 3)
    waits_for_room(store)

    assert store.front() == 1 and not adding.ready()
    store.pop_front()

    assert adding.get(timeout=DEADLINE_S) is True and list(store) == [2, 3]


def test_a_thread_waits_for_room(open_fifo):
    store = open_fifo(max_messages=2, when_full="block")
    store.add_many([1, 2])
    thread, outcome = in_thread(store.add, 3)
    waits_for_room(store)

    store.pop_front()

    thread.join(DEADLINE_S)
    assert outcome == [True] and list(store) == [2, 3]


def test_whoever_waits_comes_in_order(open_fifo):
    store = open_fifo(max_messages=1, when_full="block")
    store.add(0)
    waiting = []
    for number in range(1, 6):
        waiting.append(gevent.spawn(store.add, number))
        with gevent.Timeout(DEADLINE_S):
            while len(store.blocked) < number:
                gevent.sleep(0.001)

    for number in range(6):
        with gevent.Timeout(DEADLINE_S):
            while store.front() is None:
                gevent.sleep(0.001)
        assert store.front() == number
        store.pop_front()

    gevent.joinall(waiting, raise_error=True, timeout=DEADLINE_S)
    assert len(store) == 0


@pytest.mark.parametrize("green", [True, False])
def test_whoever_waits_too_long_is_told_and_nothing_is_kept(open_fifo, green):
    store = open_fifo(max_messages=1, when_full="block", block_timeout_s=0.01)
    store.add(1)

    if green:
        with pytest.raises(SpoolFull, match=r"full for 0\.01 s"):
            store.add(2)
    else:
        thread, outcome = in_thread(store.add, 2)
        thread.join(DEADLINE_S)
        assert type(outcome[0]) is SpoolFull
    store.pop_front()

    assert store.add(3) and list(store) == [3]


@pytest.mark.parametrize("green", [True, False])
def test_a_slow_disk_is_no_full_store(open_fifo, monkeypatch, green):
    """The time that an add may wait is for room; a message that has room is kept, however long that takes."""
    store = open_fifo(max_messages=1, when_full="block", block_timeout_s=0)
    at_disk, go_on = threading.Event(), threading.Event()
    append = Journal.append

    def slow(journal, *record):
        at_disk.set()
        assert go_on.wait(DEADLINE_S)
        return append(journal, *record)

    monkeypatch.setattr(Journal, "append", slow)
    marking = gevent.spawn(store.set_mark, "a", 1)
    with gevent.Timeout(DEADLINE_S):
        while not at_disk.is_set():
            gevent.sleep(0.001)
    if green:
        adding = gevent.spawn(store.add, 1)
        adding.join(0.05)
    else:
        thread, outcome = in_thread(store.add, 1)
        thread.join(0.05)
    go_on.set()

    marking.get(timeout=DEADLINE_S)
    if green:
        assert adding.get(timeout=DEADLINE_S) is True
    else:
        thread.join(DEADLINE_S)
        assert outcome == [True]
    assert list(store) == [1]


def test_whoever_is_killed_while_waiting_adds_nothing_and_lets_the_others_pass(open_fifo):
    store = open_fifo(max_messages=1, when_full="block")
    store.add(1)
    killed = gevent.spawn(store.add, 2)
    waits_for_room(store)
    other = gevent.spawn(store.add, 3)

    killed.kill()
    store.pop_front()

    assert other.get(timeout=DEADLINE_S) and list(store) == [3]


def test_closing_ends_the_waiting(open_fifo):
    store = open_fifo(max_messages=1, when_full="block")
    store.add(1)
    waiting = gevent.spawn(store.add, 2)
    thread, outcome = in_thread(store.add, 3)
    with gevent.Timeout(DEADLINE_S):
        while len(store.blocked) < 2:
            gevent.sleep(0.001)

    store.close()

    with pytest.raises(StoreClosed):
        waiting.get(timeout=DEADLINE_S)
    thread.join(DEADLINE_S)
    assert type(outcome[0]) is StoreClosed
    assert list(open_fifo()) == [1]


# --- a full disk ----------------------------------------------------------------------------------


def fill(store, value, group=1):
    """Add until the disk is full; return how many were kept."""
    for added in range(0, 100_000, group):
        try:
            store.add_many([value] * group, mark=("added", added))
        except StoreFull as error:
            assert type(error) is StoreFull and (not added or store.mark("added") == added - group)
            return added
    raise AssertionError("the store never got full")


@pytest.mark.parametrize("size, group, limit_mib", [(200, 50, 1), (5_000, 1, 1), (100_000, 1, 4), (5_000, 4, 4)])
def test_a_full_disk_refuses_what_is_new_and_goes_on_removing_again_and_again(place, size, group, limit_mib):
    """The map has a limit here; below 2 MiB of room all goes to LMDB at once."""
    limit = limit_mib << 20
    with FifoStore(place, max_disk_bytes=limit, durability="relaxed") as store:
        expected = 0
        for _ in range(6):
            expected += fill(store, bytes(size), group)
            assert len(store) == expected > 0
            for _ in range(3):
                assert store.pop_front()
            expected -= 3 + store.pop_many(expected // 2)
            assert len(store) == expected
        kept = list(store)

    with FifoStore(place, max_disk_bytes=limit) as again:
        assert list(again) == kept and len(again) == expected
        while again.pop_many(1000):
            pass
        again.add(b"there is room again")
    assert (place / "data.mdb").stat().st_size <= limit + (4 << 20)


def test_a_pop_that_comes_with_adds_is_done_although_they_are_refused(place):
    with FifoStore(place, max_disk_bytes=1 << 20, durability="relaxed") as store:
        added = fill(store, bytes(5_000))
        adding = [gevent.spawn(store.add, bytes(5_000)) for _ in range(3)]
        popping = gevent.spawn(store.pop_front)

        gevent.joinall([popping, *adding], timeout=DEADLINE_S)

        assert popping.value is True
        assert len(store) == added - 1 + sum(one.successful() for one in adding)
