"""A work queue as persist-queue's users know it: what its documentation and tests show, and where ours does better."""

import random
import threading
from uuid import uuid4

import gevent
import pytest

from zstreampub import AckQueue, Broker, Empty, Full, UniqueAckQueue
from zstreampub.errors import (
    ConsumerConflict,
    InvalidPayload,
    RequestError,
    StaleDelivery,
    StoreClosed,
    StoreLocked,
    ZStreamPubError,
)


@pytest.fixture(params=["memory", "lmdb"])
def q(request, tmp_path):
    with AckQueue(":memory:" if request.param == "memory" else tmp_path) as queue:
        yield queue


def in_threads(*functions):
    """Run each function in a native thread of its own; return when all have ended, raising what one has raised."""
    errors = []

    def run(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors, errors
    assert not any(thread.is_alive() for thread in threads)


# --- as documented by persist-queue ------------------------------------------------------------------


def test_an_item_is_put_got_and_acknowledged(q):
    q.put("str1")

    item = q.get()
    q.ack(item)

    assert item == "str1"
    assert (q.qsize(), q.unack_count(), q.acked_count()) == (0, 0, 1)


def test_an_item_that_is_given_back_is_got_again(q):
    q.put("str1")

    q.nack(q.get())

    assert q.get() == "str1"


def test_an_item_that_has_failed_is_not_got_again(q):
    q.put("str1")

    q.ack_failed(q.get())

    assert q.empty() and q.ack_failed_count() == 1
    with pytest.raises(Empty):
        q.get(block=False)


def test_an_empty_queue_says_so_at_once_or_after_the_timeout(q):
    q.put("first")
    assert q.get() == "first"

    with pytest.raises(Empty):
        q.get(block=False)
    with pytest.raises(Empty):
        q.get_nowait()
    with pytest.raises(Empty):
        q.get(block=True, timeout=0.01)
    with pytest.raises(ValueError):
        q.get(block=True, timeout=-1.0)


def test_empty_and_full(q):
    assert (q.empty(), q.full()) == (True, False)
    q.put("first")
    assert (q.empty(), q.full()) == (False, False)
    q.get()
    assert (q.empty(), q.full()) == (True, False)


def test_what_was_put_is_there_when_the_queue_is_opened_again(tmp_path):
    q = AckQueue(tmp_path)
    q.put(b"var1")
    del q

    with AckQueue(tmp_path) as q:
        assert q.qsize() == 1
        assert q.get() == b"var1"


def test_many_items_keep_their_order_over_a_reopening(tmp_path):
    with AckQueue(str(tmp_path)) as q:
        for n in range(300):
            q.put(f"var{n}")
        assert q.qsize() == 300

    with AckQueue(str(tmp_path)) as q:
        assert q.qsize() == len(q) == q.size == 300
        assert [q.get() for _ in range(300)] == [f"var{n}" for n in range(300)]
        q.put("foobar")
        assert q.get() == "foobar"
        q.shrink_disk_usage()


def test_random_puts_and_gets(q):
    there = 0
    for _ in range(300):
        if random.random() < 0.5:
            q.put(f"var{uuid4()}")
            there += 1
        elif there:
            q.get()
            there -= 1
        else:
            with pytest.raises(Empty):
                q.get(block=False)


def test_a_producer_and_a_consumer_thread_at_the_same_time(q):
    seen = []

    in_threads(lambda: seen.extend(q.get(block=True) for _ in range(300)),
               lambda: [q.put(f"var{n}") for n in range(300)])

    assert seen == [f"var{n}" for n in range(300)]
    assert q.size == 0 == len(q)
    with pytest.raises(Empty):
        q.get(block=False)


def test_several_producers_and_several_consumers(q):
    seen = []

    def consume():
        for _ in range(60):
            item = q.get(timeout=20)
            q.ack(item)
            seen.append(item)

    in_threads(*[lambda worker=worker: [q.put([worker, n]) for n in range(30)] for worker in range(10)],
               *[consume for _ in range(5)])

    assert sorted(seen) == [[worker, n] for worker in range(10) for n in range(30)]
    assert (q.qsize(), q.unack_count(), q.acked_count()) == (0, 0, 300)


def test_acknowledged_items_stay_until_they_are_cleared(q):
    for n in range(100):
        q.put(f"val{n}")
    for item in [q.get() for _ in range(100)]:
        q.ack(item)
    assert q.acked_count() == 100

    q.clear_acked_data(keep_latest=10)

    assert q.acked_count() == 10
    q.shrink_disk_usage()


def test_at_most_max_delete_are_cleared_and_the_failed_ones_if_asked_for(q):
    for n in range(10):
        q.put(n)
        (q.ack if n % 2 else q.ack_failed)(q.get())

    assert q.clear_acked(keep_latest=0, max_delete=3) == 3
    assert q.ack_failed_count() == 5
    q.clear_acked_data(keep_latest=0, clear_ack_failed=True)

    assert (q.acked_count(), q.ack_failed_count()) == (0, 0)


def test_items_that_nobody_took_are_not_acknowledged(q):
    q.put("val1")
    val1 = q.get()

    assert q.ack("val2") is None and q.nack("val3") is None and q.ack_failed("val4") is None

    assert (q.qsize(), q.unack_count()) == (0, 1)
    q.ack(val1)
    assert q.unack_count() == 0


def test_unacknowledged_items_come_back_when_the_queue_is_opened_again(tmp_path):
    q = AckQueue(tmp_path)
    q.put("val1")
    val1 = q.get()
    assert (q.empty(), q.qsize(), q.unack_count(), q.ready_count()) == (True, 0, 1, 0)
    del q

    q = AckQueue(tmp_path, auto_resume=False)
    assert (q.empty(), q.qsize(), q.unack_count(), q.ready_count()) == (True, 0, 1, 0)
    q.resume_unack_tasks()
    assert (q.empty(), q.qsize(), q.unack_count(), q.ready_count()) == (False, 1, 0, 1)
    assert q.get() == val1
    del q

    with AckQueue(tmp_path, auto_resume=True) as q:
        assert (q.empty(), q.qsize(), q.unack_count(), q.ready_count()) == (False, 1, 0, 1)
        assert q.get(raw=True)["delivery"] == 3


def test_what_becomes_of_items_is_counted(q):
    q.put("val1")
    q.put("val2")
    q.put("val3")
    val1, val2, val3 = q.get(), q.get(), q.get()
    assert (q.qsize(), q.unack_count(), q.active_size()) == (0, 3, 3)

    q.nack(val1)
    assert (q.qsize(), q.ready_count()) == (1, 1)
    q.ack_failed(val3)
    assert q.ack_failed_count() == 1
    q.ack(val2)
    assert (q.acked_count(), q.qsize(), q.unack_count()) == (1, 1, 0)

    ready = q.get()
    assert ready == val1
    q.ack(ready)
    assert (q.qsize(), q.acked_count(), q.ready_count()) == (0, 2, 0)


@pytest.mark.parametrize("item", [0, None, False, "", b"", [], {}])
def test_any_value_is_an_item(q, item):
    q.put(item)

    got = q.get(block=False)

    assert got == item and type(got) is type(item)
    if item is not None:
        assert q.ack(got) is not None
        assert q.unack_count() == 0


def test_an_item_is_got_by_its_id(q):
    q.put("val1")
    val2 = q.put("val2")
    q.put("val3")

    assert q.get(id=val2) == "val2"
    assert q.get() == "val1"
    assert q.get(block=False, offset=val2 + 1) == "val3"


def test_the_next_item_after_an_id_is_got_and_after_the_last_comes_the_first(q):
    val1 = q.put("val1")
    q.put("val2")
    val3 = q.put("val3")

    item = q.get(id=val1, next_in_order=True)
    assert item == "val2"
    q.nack(item)
    item = q.get(id=val3, next_in_order=True, raw=True)

    assert item["pqid"] == val1
    with pytest.raises(ValueError):
        q.get(next_in_order=True)


def test_a_raw_item_has_its_id_and_can_be_settled_by_it(q):
    q.put("val1")

    item = q.get(raw=True)
    assert item["data"] == "val1" and item["delivery"] == 1
    q.nack(item)
    assert (q.qsize(), q.active_size()) == (1, 1)
    item = q.get(raw=True)
    assert q.active_size() == 1
    assert q.ack(item) == item["pqid"]

    assert q.active_size() == 0


def test_all_items_are_listed_with_what_they_are(q):
    for n in range(3):
        q.put(f"val{n}")
    q.get()
    q.nack(q.get())

    listed = q.queue()

    assert [one["data"] for one in listed] == ["val0", "val1", "val2"]
    assert [one["status"] for one in listed] == [2, 1, 0]
    assert [one["state"] for one in q.browse()] == ["in_flight", "waiting", "new"]
    assert [one["pqid"] for one in q.browse(first=listed[1]["id"], limit=1)] == [listed[1]["id"]]


def test_an_item_is_updated_where_it_waits(q):
    id = q.put("val1")
    q.put("other")

    assert q.update(id=id, item="val2") == id

    assert q.peek() == "val2"
    assert q.get(id=id) == "val2"


def test_a_raw_item_is_updated_and_without_an_id_there_is_an_error(q):
    q.put("val1")
    raw = q.peek(raw=True)

    q.update({**raw, "data": "val2"})

    assert q.get() == "val2"
    with pytest.raises(ValueError):
        q.update("val3")


def test_an_item_can_be_settled_by_its_id_and_only_by_one_of_the_two(q):
    id = q.put("val1")
    item = q.get()

    for wrong in (dict(item=item, id=id), {}):
        with pytest.raises(ValueError):
            q.ack(**wrong)
    assert q.ack(id=str(id)) == id
    assert q.active_size() == 0


def test_an_item_that_nobody_took_can_be_settled_by_its_id(q):
    first, second = q.put("val1"), q.put("val2")

    q.ack(id=second)
    q.ack_failed(id=first)

    assert (q.active_size(), q.ack_failed_count()) == (0, 1)


def test_equal_items_are_put_once_in_a_unique_queue(tmp_path):
    with UniqueAckQueue(tmp_path) as q:
        id = q.put(1111)
        assert q.put(1111) == id
        assert q.size == 1
        q.put(2222)
        assert q.put({"a": 1, "b": {"c": 1, "d": 2}}) == q.put({"b": {"d": 2, "c": 1}, "a": 1})
        assert q.size == 3
        q.ack(q.get())
        q.put(1111)
        assert q.size == 2

    with UniqueAckQueue(tmp_path) as q:
        assert q.put(2222) == id + 1
        assert q.size == 2


# --- where ours does better ------------------------------------------------------------------------------


def test_task_done_is_never_about_an_item_of_another_thread(tmp_path):
    with AckQueue(tmp_path) as q:
        q.put("a")
        q.put("b")
        in_threads(q.get)                                   # takes a, fails, and never says that it is done
        in_threads(lambda: (q.get(), q.task_done()))        # takes b

    with AckQueue(tmp_path) as q:
        assert [one["data"] for one in q.queue()] == ["a"]


def test_task_done_is_about_what_was_taken_last_not_about_what_has_failed_before(q):
    q.put("fails")
    q.put("works")
    q.get()
    q.get()

    q.task_done()

    assert [one["data"] for one in q.queue()] == ["fails"]
    q.task_done()
    q.task_done()       # there is nothing left: as after ack, it does nothing
    assert q.active_size() == 0


def test_equal_numbers_are_acknowledged_by_the_thread_that_took_them(q):
    q.put(5)
    q.put(5)
    in_threads(q.get)

    q.ack(q.get())

    assert [one["status"] for one in q.queue()] == [2]
    assert q.queue()[0]["id"] == 0


def test_an_item_that_was_settled_is_not_got_by_its_id_again(q):
    id = q.put("val1")
    q.ack(q.get(id=id))

    with pytest.raises(Empty):
        q.get(id=id)        # without a timeout: it will never come


def test_an_item_that_somebody_has_is_got_by_its_id_once_it_is_given_back(q):
    id = q.put("val1")
    q.get()
    with pytest.raises(Empty):
        q.get(block=False, id=id)

    waiting = gevent.spawn(q.get, id=id)
    gevent.spawn(q.nack, id=id)

    assert waiting.get(timeout=10) == "val1"


def test_a_delivery_that_is_over_is_not_acknowledged(q):
    q.put("val1")
    old = q.get(raw=True)
    q.nack(old)
    new = q.get(raw=True)

    with pytest.raises(StaleDelivery):
        q.ack(old)

    assert q.unack_count() == 1
    q.ack(new)
    assert q.unack_count() == 0


def test_an_item_that_is_taken_is_not_updated(q):
    id = q.put("val1")
    q.get()

    with pytest.raises(RequestError):
        q.update("val2", id)


def test_what_is_no_plain_value_is_refused_with_what_to_do(q):
    for item in (object(), {1: 2}, {"a": {3}}):
        with pytest.raises(InvalidPayload, match="asdict"):
            q.put(item)
    assert q.empty()


def test_join_waits_until_everything_is_settled(q):
    for n in range(5):
        q.put(n)
    assert q.join(timeout=0.01) is False

    def work():
        for _ in range(5):
            q.get()
            q.task_done()

    in_threads(work, lambda: q.join())

    assert q.join() is True


def test_with_a_maxsize_put_waits_for_room_or_says_full(tmp_path):
    with AckQueue(tmp_path, maxsize=2) as q:
        q.put(1)
        assert not q.full()
        q.put(2)
        assert q.full()
        with pytest.raises(Full):
            q.put_nowait(3)
        with pytest.raises(Full):
            q.put(3, timeout=0.01)

        in_threads(lambda: q.put(3), q.get)

        assert [q.get(), q.get()] == [2, 3]


def test_looking_takes_nothing(q):
    with pytest.raises(Empty):
        q.peek()
    q.put("val1")

    assert q.peek() == q.peek() == "val1"
    assert q.peek(raw=True)["pqid"] == 0
    assert q.get() == "val1" and q.queue()[0]["status"] == 2


def test_a_queue_without_items_is_true(q):
    assert q and len(q) == 0


def test_an_id_that_is_none_is_refused(q):
    for id in ("val1", -1, 1.5, {"id": 1}):
        with pytest.raises(ValueError):
            q.get(id=id)


# --- where it lives -----------------------------------------------------------------------------------------


def test_queues_of_one_directory_share_the_store_and_nothing_else(tmp_path):
    with AckQueue(tmp_path, name="a") as a, AckQueue(tmp_path, name="b") as b, AckQueue(tmp_path, name="a") as also_a:
        a.put("in a")
        b.put("in b")
        held = a.get()

        assert (also_a.unack_count(), b.get()) == (1, "in b")
        with AckQueue(tmp_path, name="a") as third:     # opening takes nothing from those that are open
            assert third.unack_count() == 1
        also_a.ack(id=0)
        assert a.active_size() == 0 and held == "in a"


def test_each_queue_in_memory_is_one_of_its_own():
    with AckQueue(":memory:") as a, AckQueue(":memory:") as b:
        a.put(1)

        assert b.empty()


def test_persist_queues_own_options_do_no_harm_and_unknown_ones_are_refused(tmp_path):
    with AckQueue(str(tmp_path), multithreading=True, auto_commit=True, timeout=10.0, db_file_name="x.db") as q:
        q.put(1)

    with pytest.raises(ZStreamPubError, match="serializer"):
        AckQueue(tmp_path, name="other", serializer="json")


def test_settings_are_those_of_the_consumer_and_another_value_is_a_conflict(tmp_path):
    with AckQueue(tmp_path, max_deliveries=2) as q:
        q.put("poison")
        q.nack(q.get())
        q.nack(q.get())
        assert q.empty() and q.ack_failed_count() == 1

    with AckQueue(tmp_path) as q:
        assert q.describe()["settings"]["max_deliveries"] == 2
    with pytest.raises(ConsumerConflict, match="max_deliveries"):
        AckQueue(tmp_path, max_deliveries=3)


def test_a_closed_queue_says_so_also_to_a_thread_that_waits(tmp_path):
    q = AckQueue(tmp_path)
    waiting, fetch = threading.Event(), q._port.fetch

    def tell_and_fetch(*args):
        waiting.set()
        return fetch(*args)

    q._port.fetch = tell_and_fetch

    def wait():
        with pytest.raises(StoreClosed):
            q.get()

    in_threads(wait, lambda: waiting.wait(10) and q.close())
    q.close()

    with pytest.raises(StoreClosed):
        q.put(1)


def test_a_queue_that_is_closed_frees_its_directory(tmp_path):
    with AckQueue(tmp_path) as q:
        q.put("val1")
        q.get()

    with Broker.open(f"lmdb:{tmp_path}") as broker:
        assert broker.get(0).payload == "val1"


def test_a_directory_that_cannot_be_opened_is_told_and_can_be_opened_later(tmp_path):
    with Broker.open(f"lmdb:{tmp_path}"):
        for _ in range(2):
            with pytest.raises(StoreLocked):
                AckQueue(tmp_path)

    with AckQueue(tmp_path) as q:
        q.put(1)


def test_threads_that_open_and_let_go_of_one_directory_at_once_do_not_disturb_each_other(tmp_path):
    def work():
        for n in range(20):
            q = AckQueue(tmp_path, auto_resume=False)
            q.put(n)
            if n % 2:
                q.close()
            del q

    in_threads(*[work] * 4)

    with AckQueue(tmp_path) as q:
        assert q.qsize() == 80


def test_an_interrupted_get_leaves_the_item_in_the_queue(q):
    for turns in range(40):
        waiting, putting = gevent.spawn(q.get), gevent.spawn(q.put, "val")
        for _ in range(turns):
            gevent.sleep(0)     # the queue lives in another thread, so it is anywhere by then
        waiting.kill()
        putting.join()

        if isinstance(waiting.value, gevent.GreenletExit):
            assert q.get(timeout=10) == "val"
        assert q.ack(id=q.queue()[0]["id"]) is not None

    assert q.active_size() == 0


# --- in a gevent program -------------------------------------------------------------------------------------


def test_greenlets_share_a_queue_of_their_own_broker():
    with Broker.open("memory:") as broker:
        q, seen = broker.queue("jobs"), []

        def work():
            while True:
                item = q.get()
                seen.append(item)
                q.ack(item)

        workers = [gevent.spawn(work) for _ in range(3)]
        for n in range(30):
            q.put(n)
        assert q.join(10)
        gevent.killall(workers)

    assert sorted(seen) == list(range(30))


def test_a_queue_of_a_bridge_is_used_from_native_threads():
    with Broker.open("memory:") as broker:
        q = broker.for_threads().queue("jobs")
        mine = broker.queue("jobs")
        mine.put("a")

        item = gevent.get_hub().threadpool.apply(q.get)
        gevent.get_hub().threadpool.apply(q.ack, (item,))

        assert item == "a" and mine.active_size() == 0
