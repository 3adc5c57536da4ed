"""Items that are taken ahead are everybody's until somebody gets them."""

import threading

import pytest

from zstreampub import AckQueue, Empty


@pytest.fixture
def q():
    """A queue of ten items, of which the first is taken, and so all others are taken ahead."""
    with AckQueue(":memory:") as queue:
        for number in range(10):
            queue.put(number)
        assert queue.get() == 0
        assert queue.describe()["pending"] == 10
        yield queue


def test_they_are_not_counted_as_taken(q):
    assert (q.qsize(), q.unack_count(), q.ready_count(), q.active_size()) == (9, 1, 0, 10)
    assert [one["status"] for one in q.queue()] == [2] + [0] * 9
    assert {one["delivery"] for one in q.browse(first=1)} == {0}


def test_they_come_in_order_but_for_what_was_given_back(q):
    first = q.get(raw=True)
    q.nack(first)
    q.nack(id=0)

    assert q.peek() == 0
    assert [q.get() for _ in range(10)] == list(range(10))
    with pytest.raises(Empty):
        q.get(block=False)


def test_what_is_given_back_for_later_does_not_come_first(q):
    q.nack(id=0, delay_s=1000)

    assert [q.get() for _ in range(9)] == list(range(1, 10))
    with pytest.raises(Empty):
        q.get(block=False)


def test_one_of_them_is_got_settled_or_changed_by_its_id(q):
    assert q.get(id=5) == 5
    assert q.ack(id=6) == 6
    q.ack_failed(id=7)
    q.update("changed", 8)
    q.nack(id=9)

    assert [q.get(timeout=10) for _ in range(6)] == ["changed", 9, 1, 2, 3, 4]
    with pytest.raises(Empty):
        q.get(block=False)


def test_the_next_in_order_is_found_among_them(q):
    assert q.get(id=4, next_in_order=True) == 5
    assert q.get(id=4, next_in_order=True) == 6
    assert q.get(id=9, next_in_order=True) == 1


def test_peek_shows_the_first_of_them(q):
    raw = q.peek(raw=True)

    assert (raw["pqid"], raw["data"], raw["delivery"]) == (1, 1, 0)
    assert not q.empty()


def test_another_queue_on_the_same_directory_gets_them_too(tmp_path):
    with AckQueue(tmp_path) as q, AckQueue(tmp_path) as other:
        for number in range(3):
            q.put(number)

        assert [q.get(), other.get(block=False), q.get(block=False)] == [0, 1, 2]


def test_threads_that_do_not_wait_find_all_of_them(tmp_path):
    with AckQueue(tmp_path) as q:
        for number in range(200):
            q.put(number)
        found = []

        def work():
            try:
                while True:
                    found.append(q.get(block=False))
            except Empty:
                pass

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert sorted(found) == list(range(200))


def test_they_are_given_back_when_the_queue_is_closed(tmp_path):
    with AckQueue(tmp_path) as q:
        for number in range(3):
            q.put(number)
        q.get()

    with AckQueue(tmp_path, auto_resume=False) as q:
        assert (q.unack_count(), q.qsize()) == (1, 2)
        assert [q.get(), q.get()] == [1, 2]


@pytest.mark.parametrize("options", [dict(max_deliveries=3), dict(auto_resume=False)])
def test_none_are_taken_where_every_delivery_counts(options):
    with AckQueue(":memory:", **options) as q:
        for number in range(3):
            q.put(number)

        q.get()

        assert q.describe()["pending"] == 1
