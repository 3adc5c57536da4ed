"""The Python client against real servers on real stores, which are stopped, killed, frozen and replaced."""

import os
import signal
import subprocess
import sys
import textwrap

import gevent
import pytest

from tests.processes import DEADLINE_S, ROOT, ServerProcess, wait_until
from zstreampub.client import Client
from zstreampub.errors import EpochMismatch, RequestTimeout, SlowConsumer, Unsubscribed


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        yield client


class Traffic:
    """Some greenlets that publish numbered messages until told to stop, and one that reads them all."""

    def __init__(self, endpoint, publishers=4):
        self.stopping = False
        self.published: list = []       # (offset, payload), as publish returned
        self.read: list = []            # (offset, payload), as the subscription gave
        self.writer, self.reader = (Client(endpoint, timeout_s=DEADLINE_S) for _ in range(2))
        self.subscription = self.reader.subscribe("load.>", start="earliest")
        self._tasks = [gevent.spawn(self._publish, number) for number in range(publishers)]
        self._reading = gevent.spawn(self._read)

    def _publish(self, publisher):
        number = 0
        while not self.stopping:
            payload = [publisher, number]
            self.published.append((self.writer.publish(f"load.{publisher}", payload), payload))
            number += 1

    def _read(self):
        for message in self.subscription:
            self.read.append((message.offset, message.payload))

    def wait_for_more(self, count=200):
        published, read = len(self.published) + count, len(self.read) + count
        wait_until(lambda: len(self.published) >= published and len(self.read) >= read, self._progress)

    def finish(self):
        """Stop publishing, let the reader catch up, close; raise what went wrong on the way."""
        self.stopping = True
        gevent.joinall(self._tasks, timeout=DEADLINE_S, raise_error=True)
        wait_until(lambda: self._reading.ready() or len(self.read) >= len(self.published), self._progress)
        gevent.sleep(0.1)       # a repeated message would come now
        self.subscription.close()
        self._reading.get(timeout=DEADLINE_S)
        self.writer.close()
        self.reader.close()

    def _progress(self):
        return f"more than {len(self.published)} published and {len(self.read)} read"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_message_is_lost_or_repeated_while_the_server_is_stopped_and_started(tmp_path, number):
    server = ServerProcess(tmp_path)
    traffic = Traffic(server.endpoint)
    try:
        for _ in range(3):
            traffic.wait_for_more()
            server.terminate(number)
            server.wait()
            server = server.again()
        traffic.wait_for_more()
        traffic.finish()
        with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
            log = [(message.offset, message.payload)
                   for message in client.subscribe("load.>", start="earliest", until="end")]
    finally:
        server.kill()

    assert traffic.read == log
    assert sorted(traffic.published) == log
    assert len({tuple(payload) for _, payload in log}) == len(log)      # nothing was stored twice
    for publisher in range(4):
        numbers = [payload[1] for _, payload in log if payload[0] == publisher]
        assert numbers == list(range(len(numbers)))
    assert traffic.subscription.gaps == 0
    assert traffic.subscription.resumed >= 3


def test_a_producer_goes_on_through_a_killed_server_and_stores_each_message_once(tmp_path):
    server = ServerProcess(tmp_path)
    with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        producer = client.producer()
        futures = []
        for round in range(3):
            futures += [producer.publish("p", [round, at]) for at in range(5000)]
            gevent.sleep(0.01)
            server.kill()
            server = server.again()
        producer.close()
        offsets = [future.get() for future in futures]
        log = [message.payload for message in client.subscribe("p", start="earliest", until="end")]
    server.kill()

    assert offsets == list(range(15_000))
    assert log == [[round, at] for round in range(3) for at in range(5000)]


def test_a_frozen_server_is_noticed_and_its_work_is_done_once_when_it_thaws(tmp_path):
    with ServerProcess(tmp_path, heartbeat_s=0.2) as server:
        with Client(server.endpoint, timeout_s=DEADLINE_S, heartbeat_s=0.2) as client:
            subscription = client.subscribe("a")
            assert client.publish("a", 0) == 0
            assert subscription.get(DEADLINE_S).payload == 0
            server.freeze()
            sending = [gevent.spawn(client.publish, "a", at) for at in range(1, 4)]
            reading = gevent.spawn(lambda: [subscription.get(DEADLINE_S).payload for _ in range(3)])
            wait_until(lambda: not client.is_connected, "notice of the silence")

            server.thaw()

            offsets = [task.get(timeout=DEADLINE_S) for task in sending]
            assert sorted(reading.get(timeout=DEADLINE_S)) == [1, 2, 3]
            assert sorted(offsets) == [1, 2, 3]
            assert client.about()["next"] == 4


def test_a_publish_that_times_out_at_a_frozen_server_says_so_and_the_client_lives_on(tmp_path):
    with ServerProcess(tmp_path) as server, Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        client.publish("a", 0)
        server.freeze()
        with pytest.raises(RequestTimeout, match="may or may not"):
            client.publish("a", 1, timeout_s=0.2)
        server.thaw()

        client.publish("a", 2)

        payloads = [message.payload for message in client.subscribe("a", start="earliest", until="end")]
        assert payloads in ([0, 2], [0, 1, 2])


def test_sixty_four_callers_each_get_the_offset_of_their_own_message(server, client):
    found = {}

    def publish(caller):
        for at in range(20):
            found[client.publish(f"c.{caller % 3}", [caller, at])] = [caller, at]

    gevent.joinall([gevent.spawn(publish, caller) for caller in range(64)], raise_error=True)

    log = {message.offset: message.payload for message in client.subscribe("c.*", start="earliest", until="end")}
    assert log == found
    assert len(log) == 64 * 20


def test_every_kind_of_message_comes_back_as_it_was_published(server, client):
    client.publish("a.b", {"text": "ü", "bytes": b"\0\xff", "list": [1, -1, 1.5, None, True]},
                   headers={"h": 1, "n": None}, key="k", id=b"i")
    first, next_ = client.publish_many("a.c", ["x", b"y"], keys=["k1", None], headers=[None, {"h": 2}])

    with client.subscribe(["a.*"], start="earliest", until="end") as subscription:
        one, two, three = subscription

    assert (one.payload, one.headers, one.key, one.id) == (
        {"text": "ü", "bytes": b"\0\xff", "list": [1, -1, 1.5, None, True]}, {"h": 1, "n": None}, "k", b"i")
    assert (two.payload, two.key, two.headers) == ("x", "k1", None)
    assert (three.payload, three.key, three.headers) == (b"y", None, {"h": 2})
    assert (first, next_) == (two.offset, three.offset + 1)
    assert client.get(one.offset) == one
    assert client.last("a.c", "k1") == two
    assert [topic["topic"] for topic in client.topics("a.>")] == ["a.b", "a.c"]


def test_a_list_beyond_one_batch_is_stored_next_to_each_other(tmp_path):
    with ServerProcess(tmp_path, max_batch_messages=10) as server, Client(server.endpoint) as client:
        client.publish("a", "before")
        first, next_ = client.publish_many("a", range(95))

        log = [message.payload for message in client.subscribe("a", start=first, until=next_)]

    assert log == list(range(95))
    assert next_ - first == 95


def test_close_from_another_greenlet_ends_the_loop_and_the_servers_subscription(server, client):
    subscription = client.subscribe("a", name="closing")
    reading = gevent.spawn(list, subscription)
    assert [one["name"] for one in client.subscriptions()] == ["closing"]

    subscription.close()

    assert reading.get(timeout=DEADLINE_S) == []
    assert client.subscriptions() == []


def test_unsubscribing_somebody_else_ends_their_loop_with_an_error(server, client):
    with Client(server.endpoint) as other:
        subscription = other.subscribe("a")
        client.publish("a", 1)
        assert subscription.get(DEADLINE_S).payload == 1

        assert client.unsubscribe(subscription.id)

        with pytest.raises(Unsubscribed) as caught:
            next(subscription)
        assert caught.value.resume == 1
        assert not client.unsubscribe(subscription.id)


def test_another_log_at_the_same_address_is_told_to_its_readers(tmp_path):
    with ServerProcess(tmp_path / "one") as server, Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        subscription = client.subscribe("a")
        client.publish("a", "old")
        assert subscription.get(DEADLINE_S).payload == "old"
        server.kill()

        with ServerProcess(tmp_path / "two", endpoint=server.endpoint):
            with pytest.raises(EpochMismatch):
                subscription.get(DEADLINE_S)
            assert client.publish("a", "new") == 0


def fill(client, count=400, size=10_000):
    """Publish more than what may be under way to a subscriber that does not read."""
    for first in range(0, count, 50):
        client.publish_many("s", [[at, b"x" * size] for at in range(first, first + 50)])


def test_a_slow_reader_that_chose_disconnect_and_reconnects_misses_nothing(server, client):
    subscription = client.subscribe("s", policy="disconnect", max_messages=50)

    fill(client)

    numbers = [subscription.get(DEADLINE_S).payload[0] for _ in range(400)]
    assert numbers == list(range(400))
    assert subscription.resumed >= 1


def test_a_slow_reader_without_reconnect_is_told_where_to_resume_and_misses_nothing(server, client):
    subscription = client.subscribe("s", policy="disconnect", max_messages=50, reconnect=False)

    fill(client)

    numbers = []
    with pytest.raises(SlowConsumer) as caught:
        for message in subscription:
            numbers.append(message.payload[0])
    rest = client.subscribe("s", start=caught.value.resume, until="end")
    assert numbers + [message.payload[0] for message in rest] == list(range(400))


def test_the_client_works_in_a_patched_process(server):
    script = textwrap.dedent("""
        from gevent import monkey
        monkey.patch_all()
        import sys, threading, time
        from zstreampub.client import Client
        with Client(sys.argv[1], timeout_s=10) as client:
            subscription = client.subscribe("p")
            caught = []
            def publish():      # a patched thread is a greenlet of this thread
                for at in range(3):
                    caught.append(client.publish("p", at))
                    time.sleep(0.001)
            thread = threading.Thread(target=publish)
            thread.start()
            print([subscription.get(10).payload for _ in range(3)])
            thread.join()
            print(caught)
    """)

    done = subprocess.run([sys.executable, "-c", script, server.endpoint], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=DEADLINE_S)

    assert done.stdout == "[0, 1, 2]\n[0, 1, 2]\n", done.stderr


def test_a_program_that_forgets_to_close_its_client_still_ends(server):
    script = textwrap.dedent("""
        import sys
        from zstreampub.client import Client
        client = Client(sys.argv[1])
        subscription = client.subscribe("p")
        client.producer().publish("p", 1)
        print(client.publish("p", 0) >= 0)
    """)

    done = subprocess.run([sys.executable, "-c", script, server.endpoint], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=DEADLINE_S)

    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_a_client_that_vanishes_is_cleaned_up_at_the_server(tmp_path):
    with ServerProcess(tmp_path, heartbeat_s=0.2) as server, Client(server.endpoint) as client:
        other = Client(server.endpoint)
        subscription = other.subscribe("a")
        assert len(client.subscriptions()) == 1

        other.close()

        wait_until(lambda: client.subscriptions() == [], "the end of the subscription")
        assert list(subscription) == []
