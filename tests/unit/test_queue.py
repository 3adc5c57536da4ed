"""The bounded queue by itself: what fits, what gives way, and what is told of it."""

import pytest

from zstreampub.message import Batch
from zstreampub.queue import BoundedQueue
from zstreampub.store import Gap


def batch(first, count, size=10, keys=None, topic="a"):
    made = Batch.of(topic, [bytes(size)] * count, keys)
    made.seal(first, 1)
    return made


def contents(queue):
    """Empty *queue*; gaps as they are, batches as ``(first, next)``."""
    items = iter(queue.get, None)
    return [item if isinstance(item, Gap) else (item.first, item.next) for item in items]


def test_an_empty_queue_takes_one_message_however_large():
    queue = BoundedQueue(10, 1)

    assert queue.room_for(batch(0, 5, size=1000)) == 1


def test_what_does_not_fit_whole_fits_in_part():
    queue = BoundedQueue(5, 10_000)
    queue.put(batch(0, 3))

    assert queue.room_for(batch(3, 2)) == 2
    assert queue.room_for(batch(3, 5)) == 2


def test_there_is_no_room_in_a_queue_that_was_forced_over_its_bounds():
    queue = BoundedQueue(2, 10_000)
    queue.put(batch(0, 5))

    assert queue.room_for(batch(5, 3)) == 0


def test_neighbouring_gaps_of_one_reason_become_one():
    queue = BoundedQueue(5, 1000)
    for gap in (Gap(0, 2, 2, "drop"), Gap(5, 6, 1, "drop"), Gap(6, 9, None, "retention"), Gap(9, 10, 1, "retention")):
        queue.put_gap(gap)

    assert contents(queue) == [Gap(0, 6, 3, "drop"), Gap(6, 10, None, "retention")]


def test_the_oldest_give_way_by_messages():
    queue = BoundedQueue(4, 10_000)
    queue.put(batch(0, 3))
    queue.put(batch(3, 3))

    assert queue.drop_oldest("drop_oldest") == 2
    assert contents(queue) == [Gap(0, 2, 2, "drop_oldest"), (2, 3), (3, 6)]


def test_the_oldest_give_way_by_bytes_while_there_is_room_for_more_messages():
    queue = BoundedQueue(10, 300)
    queue.put(batch(0, 3, size=60))
    queue.put(batch(3, 2, size=60))

    assert queue.drop_oldest("drop_oldest") == 2
    assert queue.bytes <= 300
    assert contents(queue) == [Gap(0, 2, 2, "drop_oldest"), (2, 3), (3, 5)]


def test_what_was_dropped_before_is_not_counted_again():
    queue = BoundedQueue(2, 10_000)

    gone = 0
    for first in range(0, 10, 2):
        queue.put(batch(first, 2))
        gone += queue.drop_oldest("drop_oldest")

    assert gone == 8
    assert contents(queue) == [Gap(0, 8, 8, "drop_oldest"), (8, 10)]


def test_the_last_message_stays_however_large():
    queue = BoundedQueue(10, 1)
    queue.put(batch(0, 4, size=1000))

    assert queue.drop_oldest("drop_oldest") == 3
    assert contents(queue) == [Gap(0, 3, 3, "drop_oldest"), (3, 4)]


def test_conflating_leaves_a_gap_in_each_place_where_messages_went():
    queue = BoundedQueue(10, 10_000)
    queue.put(batch(0, 3, keys=["x", "y", "x"]))

    assert queue.conflate(batch(3, 3, keys=["y", "z", "z"]), "conflate") == 3
    assert queue.messages == 3
    assert contents(queue) == [Gap(0, 2, 2, "conflate"), (2, 3), (3, 4), Gap(4, 5, 1, "conflate"), (5, 6)]
    assert (queue.messages, queue.bytes, bool(queue)) == (0, 0, False)


def test_messages_without_a_key_are_conflated_by_topic():
    queue = BoundedQueue(10, 10_000)
    queue.put(batch(0, 2))
    queue.put(batch(2, 2, topic="b"))
    queue.conflate(batch(4, 1), "conflate")

    assert contents(queue) == [Gap(0, 3, 3, "conflate"), (3, 4), (4, 5)]


def test_the_gaps_that_were_queued_stay_in_their_place():
    queue = BoundedQueue(10, 10_000)
    queue.put(batch(0, 1))
    queue.put_gap(Gap(1, 4, 3, "retention"))
    queue.put(batch(4, 1))
    queue.conflate(batch(5, 2), "conflate")

    assert queue.first == 0
    assert contents(queue) == [(0, 1), Gap(1, 4, 3, "retention"), Gap(4, 6, 2, "conflate"), (6, 7)]


@pytest.mark.parametrize("add", ["put", "put_gap"])
def test_what_is_put_ends_the_conflating_and_comes_behind(add):
    queue = BoundedQueue(10, 10_000)
    queue.put(batch(0, 2))
    queue.conflate(batch(2, 1), "conflate")
    last = batch(3, 1) if add == "put" else Gap(3, 4, 1, "retention")

    getattr(queue, add)(last)

    assert contents(queue) == [Gap(0, 2, 2, "conflate"), (2, 3), (3, 4) if add == "put" else last]


def test_while_it_conflates_the_policy_is_asked_each_time():
    queue = BoundedQueue(10, 10_000)
    queue.conflate(batch(0, 1), "conflate")

    assert queue.room_for(batch(1, 1)) == 0
    assert not queue.put_if_room(batch(1, 1))
    queue.get()
    assert queue.get() is None
    assert queue.put_if_room(batch(1, 1))


def test_a_queue_that_is_cleared_is_as_new():
    queue = BoundedQueue(10, 10_000)
    queue.put(batch(0, 2))
    queue.conflate(batch(2, 1), "conflate")

    queue.clear()

    assert (queue.messages, queue.bytes, queue.first, queue.get(), bool(queue)) == (0, 0, None, None, False)
