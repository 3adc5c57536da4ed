"""Work queues of a real server, used from several processes; and a script of persist-queue's kind."""

import subprocess
import sys

import gevent
import pytest

from tests.processes import ROOT, ServerProcess, wait_until
from zstreampub import AckQueue, Client, Empty, UniqueAckQueue
from zstreampub.errors import ConnectionLost, StaleDelivery

SCRIPT = """
import sys
if "patched" in sys.argv:
    from gevent import monkey
    monkey.patch_all()
import threading
from zstreampub import AckQueue as SQLiteAckQueue, Empty

queue = SQLiteAckQueue(sys.argv[1], multithreading=True)
done = []

def produce(worker):
    for number in range(50):
        queue.put({"worker": worker, "number": number})

def consume():
    while True:
        item = queue.get()
        done.append(item)
        try:
            if item["number"] == 13:
                raise ValueError("unlucky")
        except ValueError:
            queue.ack_failed(item)
        else:
            queue.ack(item)

for _ in range(3):
    threading.Thread(target=consume, daemon=True).start()
producers = [threading.Thread(target=produce, args=(worker,)) for worker in range(4)]
for producer in producers:
    producer.start()
for producer in producers:
    producer.join()
queue.join()
assert sorted((item["worker"], item["number"]) for item in done) == [(w, n) for w in range(4) for n in range(50)]
assert (queue.qsize(), queue.unack_count(), queue.ack_failed_count(), queue.acked_count()) == (0, 0, 4, 196)
try:
    queue.get(block=False)
except Empty:
    print("done")
"""

HOLDER = """
import sys, time
from zstreampub import AckQueue
queue = AckQueue(sys.argv[1])
print(queue.get(), flush=True)
time.sleep(1000)
"""


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path / "server") as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.endpoint) as client:
        yield client


def run_script(where, *how):
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT, where, *how], cwd=ROOT, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr
    assert not done.stderr


@pytest.mark.parametrize("how", ["plain", "patched"])
def test_a_script_with_threads_works_in_a_directory(how, tmp_path):
    run_script(str(tmp_path / "queue"), how)


@pytest.mark.parametrize("how", ["plain", "patched"])
def test_a_script_with_threads_works_at_a_server(how, server):
    run_script(server.endpoint, how)


def test_greenlets_share_a_queue_of_the_client(client):
    q, seen = client.queue("jobs"), []

    def work():
        while True:
            item = q.get()
            seen.append(item)
            q.ack(item)

    workers = [gevent.spawn(work) for _ in range(3)]
    for number in range(30):
        q.put(number)
    assert q.join(20)
    gevent.killall(workers)

    assert sorted(seen) == list(range(30))


def test_two_clients_take_different_items_and_one_may_settle_what_another_took(server, client):
    with Client(server.endpoint) as other:
        mine, theirs = client.queue("jobs"), other.queue("jobs")
        first, second = mine.put("a"), mine.put("b")

        assert {mine.get(), theirs.get()} == {"a", "b"}
        mine.ack(id=first)
        mine.ack(id=second)

        assert theirs.active_size() == 0


def test_the_items_of_a_process_that_was_killed_come_back(server):
    with AckQueue(server.endpoint, ack_wait_s=1.0) as q:
        q.put("job")
        holder = subprocess.Popen([sys.executable, "-c", HOLDER, server.endpoint], cwd=ROOT, stdout=subprocess.PIPE,
                                  text=True)
        try:
            assert holder.stdout.readline() == "job\n"
            with pytest.raises(Empty):
                q.get(block=False)
        finally:
            holder.kill()
            holder.wait()
            holder.stdout.close()

        item = q.get(timeout=20, raw=True)

    assert (item["data"], item["delivery"]) == ("job", 2)


def test_a_process_that_was_killed_has_lost_nothing_in_its_directory(tmp_path):
    with AckQueue(tmp_path) as q:
        for number in range(40):
            q.put(number)
        q.ack(q.get())
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE,
                              text=True)
    assert holder.stdout.readline() == "1\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()

    with AckQueue(tmp_path) as q:
        assert (q.qsize(), q.unack_count()) == (39, 0)
        assert [q.get() for _ in range(39)] == list(range(1, 40))


def test_an_item_is_its_takers_for_as_long_as_the_work_takes(client):
    q = client.queue("jobs", ack_wait_s=0.3)
    q.put("long")
    item = q.get()

    with pytest.raises(Empty):
        q.get(timeout=1.0)

    assert q.ack(item) is not None
    assert q.active_size() == 0


def test_what_a_closed_queue_held_is_given_back_at_once(server, client):
    q = client.queue("jobs")
    q.put("job")
    with AckQueue(server.endpoint, name="jobs") as other:
        assert other.get() == "job"
        with pytest.raises(Empty):
            q.get(block=False)

    assert q.get(timeout=10) == "job"


def test_what_a_dropped_queue_held_is_given_back(server, client):
    q = client.queue("jobs")
    q.put("job")
    other = AckQueue(server.endpoint, name="jobs")
    assert other.get() == "job"

    del other

    assert q.get(timeout=10) == "job"


def test_a_queue_goes_on_when_the_server_was_killed_and_is_back(server, client):
    q = client.queue("jobs")
    kept, done = q.put("kept"), q.put("done")
    q.ack(id=done) if q.get(id=done) == "done" else None
    server.kill()
    waiting = gevent.spawn(q.get)

    with server.again():
        assert waiting.get(timeout=30) == "kept"
        assert q.ack(id=kept) == kept
        assert q.active_size() == 0


def test_a_server_that_is_not_there_is_told_when_the_timeout_is_over(server, client):
    q = client.queue("jobs")
    server.kill()
    wait_until(lambda: not client.is_connected, "loss of the connection")

    with pytest.raises(ConnectionLost):
        q.get(timeout=0.1)


def test_a_get_on_a_client_that_is_closed_ends(server):
    client = Client(server.endpoint)
    waiting = gevent.spawn(client.queue("jobs").get)
    gevent.sleep(0.05)

    client.close()

    with pytest.raises(ConnectionLost):
        waiting.get(timeout=10)


def test_a_delivery_that_is_over_is_refused(client):
    q = client.queue("jobs")
    q.put("job")
    old = q.get(raw=True)
    q.nack(old)
    q.get()

    with pytest.raises(StaleDelivery):
        q.ack(old)


def test_equal_items_are_put_once(server):
    with UniqueAckQueue(server.endpoint) as q:
        assert q.put({"a": 1, "b": 2}) == q.put({"b": 2, "a": 1})
        assert q.qsize() == 1


def test_looking_updating_failing_and_clearing_work_over_the_wire(client):
    q = client.queue("jobs")
    ids = [q.put(number) for number in range(5)]
    q.update("changed", ids[0])

    assert (q.peek(), q.get(id=ids[3])) == ("changed", 3)
    assert [one["state"] for one in q.browse()] == ["new", "new", "new", "in_flight", "new"]
    assert q.ack_failed(id=ids[3]) == ids[3]
    for _ in range(4):
        q.get()
        q.task_done()
    assert (q.ack_failed_count(), q.acked_count()) == (1, 4)
    q.clear_acked_data(keep_latest=0, clear_ack_failed=True)
    assert (q.ack_failed_count(), q.acked_count(), q.empty()) == (0, 0, True)
