"""Receivers of a real server: patterns, verdicts, consumers, stores, other logs, and callbacks that block."""

import subprocess
import sys

import gevent
import pytest

from tests.processes import wait_until
from zstreampub import Client, FifoStore, LatestStore, Message, Receiver, Source, ThreadedReceiver
from zstreampub.errors import EpochMismatch, GapError, InvalidOption, RequestTimeout, UndecodablePayload
from zstreampub.message import Batch

KINDS = [Receiver, ThreadedReceiver]


SETTINGS = {"heartbeat_s": 0.5}


@pytest.fixture
def client(server):
    with Client(server.endpoint) as client:
        yield client


@pytest.fixture
def topic(request, client):
    """A topic that no other test has."""
    return f"test.n{abs(hash(request.node.nodeid))}"


def never(error, message):
    raise AssertionError(f"there was nothing to judge of {message}") from error


class Seen(list):
    """A callback that keeps payloads."""

    def __call__(self, message):
        self.append(message.payload)


class Judge:
    """Says *verdict* of everything, and notes what about."""

    def __init__(self, verdict):
        self.asked = []
        self._verdict = verdict

    def __call__(self, error, message):
        self.asked.append((type(error), message and message.offset))
        return self._verdict


def until(condition):
    wait_until(condition, "what was waited for", deadline_s=30)


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_where_it_was(kind, server, client, topic):
    seen = Seen()
    receiver = kind(server.endpoint, seen, never, patterns=topic, start="earliest")

    for number in range(3):
        last = client.publish(topic, number)
        with receiver:
            until(lambda number=number: len(seen) > number)
    assert seen == [0, 1, 2]
    assert receiver.offset >= last + 1


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_with_its_source(kind, server, client, topic):
    seen = Seen()
    client.publish_many(topic, [1, 2])

    with kind(Source.subscribe(server.endpoint, topic, start="earliest", until="end"), seen, never) as receiver:
        assert receiver.join(30)

    assert (seen, receiver.error) == ([1, 2], None)


def test_its_end_does_not_move_when_patterns_change(server, client, topic):
    seen = Seen()
    client.publish_many(topic, list(range(5)))

    def work(message):
        seen(message)
        if message.payload == 1:
            client.publish(topic, "later")
            receiver.subscribe(f"{topic}.more", print)

    receiver = Receiver(server.endpoint, work, never, patterns=topic, start="earliest", until="end").start()
    assert receiver.join(30)

    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_patterns_come_and_go_without_loss_or_repetition(kind, server, client, topic):
    own, first, second = Seen(), Seen(), Seen()
    count = 0

    def publish():
        nonlocal count
        for name in ("b", "a"):
            client.publish(f"{topic}.{name}", count)
        count += 1

    with kind(server.endpoint, own, never, patterns=f"{topic}.a") as receiver:
        receiver.wait_open()
        for turn in range(6):
            publish()
            if turn == 1:
                until(lambda: own == [0, 1])
                receiver.subscribe(f"{topic}.b", first)
                receiver.subscribe(f"{topic}.b", second)
            if turn == 3:
                until(lambda: second == [2, 3] and first == [2, 3])
                receiver.unsubscribe(f"{topic}.b", second)
        until(lambda: len(own) == 6 and len(first) == 4)

    assert (own, first, second) == ([0, 1, 2, 3, 4, 5], [2, 3, 4, 5], [2, 3])


def test_a_new_pattern_begins_with_the_first_message_that_was_not_handed_over(server, client, topic):
    seen, at_work, go_on = [], gevent.event.Event(), gevent.event.Event()

    def work(message):
        at_work.set()
        go_on.wait()
        seen.append(message.payload)

    with Receiver(server.endpoint, work, never, patterns=f"{topic}.a") as receiver:
        receiver.wait_open()
        for number in range(3):
            client.publish(f"{topic}.a", ("a", number))
            client.publish(f"{topic}.b", ("b", number))
        at_work.wait()
        receiver.subscribe(f"{topic}.b", lambda message: seen.append(message.payload))
        go_on.set()
        until(lambda: len(seen) == 6)

    assert seen == [[name, number] for number in range(3) for name in "ab"]


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_callback_it_waits_for_one(kind, server, client, topic):
    seen = Seen()

    with kind(server.endpoint, None, never) as receiver:
        client.publish(topic, 1)
        receiver.subscribe(topic, seen)
        receiver.wait_open()
        client.publish(topic, 2)
        until(lambda: seen)
        receiver.unsubscribe(topic)
        receiver.subscribe(topic, seen)

    assert seen == [2]


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_decode_reaches_on_exception_with_its_offset_and_it_goes_on(kind, server, client, topic):
    seen, judge = Seen(), Judge("skip")
    first = client.publish(topic, 1)
    client.call("append", [Batch.assemble(topic, [b"\xc1"], {}).packed], {})
    client.publish(topic, 3)

    with kind(server.endpoint, seen, judge, patterns=topic, start="earliest"):
        until(lambda: len(seen) == 2)

    assert seen == [1, 3]
    assert judge.asked == [(UndecodablePayload, first + 1)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("told", ["on_gap", "on_exception"])
def test_a_gap_is_told_and_it_goes_on(kind, told, server, client, topic):
    seen, judge, gaps = Seen(), Judge("skip"), []
    client.publish(topic, "gone", ttl_s=0.001)
    client.publish(topic, "there")
    gevent.sleep(0.01)      # the first one's time is over then
    options = {"on_gap": gaps.append} if told == "on_gap" else {}

    with kind(server.endpoint, seen, judge, patterns=topic, start="earliest", **options):
        until(lambda: seen)

    assert seen == ["there"]
    assert [type(gap) for gap in gaps] == ([GapError] if told == "on_gap" else [])
    assert judge.asked == ([] if told == "on_gap" else [(GapError, None)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_acknowledges_rejects_and_gives_back(kind, server, client, topic):
    seen = []

    def work(message):
        seen.append((message.payload, message.delivery))
        if message.payload == "own":
            message.ack()
        elif message.payload in ("bad", "later") and message.delivery == 1:
            raise ValueError(message.payload)

    def judge(error, message):
        return "skip" if message.payload == "bad" else "retry"

    name = topic.replace(".", "-")
    client.create_consumer(name, topic)
    client.publish_many(topic, ["fine", "own", "bad", "later", "last"])
    with kind(server.endpoint, work, judge, consumer=name) as receiver:
        until(lambda: client.consumer(name)["acked"] == 4)

    assert sorted(seen) == [("bad", 1), ("fine", 1), ("last", 1), ("later", 1), ("later", 2), ("own", 1)]
    assert receiver.error is None
    assert [letter["payload"] for letter in client.dead(name)] == ["bad"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_stops_gives_everything_back_at_once(kind, server, client, topic):
    name = topic.replace(".", "-")
    client.create_consumer(name, topic, ack_wait_s=1000)
    client.publish_many(topic, ["done", "bad", "other"])

    def work(message):
        if message.payload == "bad":
            raise ValueError(message.payload)

    with kind(server.endpoint, work, lambda error, message: "stop", consumer=name) as receiver:
        assert receiver.join(30)
    assert isinstance(receiver.error, ValueError)

    with client.consume(None, name) as rest:
        assert [rest.get(30).payload for _ in range(2)] == ["bad", "other"]


def test_deliveries_in_a_thread_tell_when_what_was_said_is_on_disk(server, client, topic):
    name, answers = topic.replace(".", "-"), []

    def work(message):
        if message.payload == "extended":
            answers.append(message.extend(100).get(30))
        answers.append(message.ack().get(30))

    client.create_consumer(name, topic)
    client.publish_many(topic, ["one", "extended"])
    with ThreadedReceiver(server.endpoint, work, never, consumer=name):
        until(lambda: len(answers) == 3)

    assert answers == [None] * 3
    assert client.consumer(name)["acked"] == 2


def test_a_member_with_a_topic_that_nobody_wants_says_so(server, client, topic):
    name, judge = topic.replace(".", "-"), Judge("skip")
    client.create_consumer(name, f"{topic}.>")
    client.publish(f"{topic}.b", 1)

    with Receiver(server.endpoint, None, judge, consumer=name) as receiver:
        receiver.subscribe(f"{topic}.a", print)
        until(lambda: judge.asked)

    assert [letter["payload"] for letter in client.dead(name)] == [1]


@pytest.mark.parametrize("is_member", [False, True])
def test_what_is_open_already_is_read_and_left_open_at_the_next_message(is_member, client, topic):
    seen = []

    def work(message):
        seen.append(message.payload)
        receiver.shutdown()

    opened = client.consume(topic, topic.replace(".", "-")) if is_member else client.subscribe(topic)
    with opened as source:
        client.publish_many(topic, list(range(10)))
        for _ in range(3):
            receiver = Receiver(source, work, never).start()
            assert receiver.join(30)
        assert seen == [0, 1, 2]
        assert [source.get(30).payload for _ in range(7)] == [3, 4, 5, 6, 7, 8, 9]
        with pytest.raises(InvalidOption, match="belongs to its thread"):
            ThreadedReceiver(source, work, never)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_member", [False, True])
def test_a_store_gets_each_message_once_over_restarts(kind, is_member, server, client, topic, tmp_path):
    options = {"consumer": topic.replace(".", "-")} if is_member else {}
    with FifoStore(tmp_path / "store") as store:
        for turn in range(3):
            client.publish_many(topic, list(range(turn * 10, turn * 10 + 10)))
            with kind(server.endpoint, store, never, patterns=topic, start="earliest", **options):
                until(lambda turn=turn: len(store) == turn * 10 + 10)

        found = list(store)
        assert [message.payload for message in found] == list(range(30))
        assert all(isinstance(message, Message) and message.topic == topic for message in found)


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_while_it_is_away_is_not_missed_also_if_nothing_came_before(kind, server, client, topic, tmp_path):
    with FifoStore(tmp_path / "store") as store:
        receiver = kind(server.endpoint, store, never, patterns=topic)      # start="new"
        with receiver:
            receiver.wait_open()
            assert type(store.mark("receiver")["next"]) is int
        client.publish(topic, "away")
        with receiver:
            until(lambda: len(store))

        assert store.front().payload == "away"


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_before_a_store_moves_its_mark(kind, server, client, topic, tmp_path):
    offsets = [client.publish(topic, number) for number in range(4)]
    with LatestStore(tmp_path / "store") as store:
        with kind(server.endpoint, store, never, patterns=topic, start="earliest", name="mine",
                  filter=lambda message: message if message.payload < 2 else None) as receiver:
            until(lambda: receiver.offset is not None and receiver.offset > offsets[-1])

        assert store.message().payload == 1
        assert store.mark("mine")["next"] == offsets[-1] + 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_member", [False, True])
def test_a_store_that_was_filled_from_another_log_is_refused(kind, is_member, server, client, topic, tmp_path):
    options = {"consumer": topic.replace(".", "-")} if is_member else {}
    client.publish(topic, 1)
    with FifoStore(tmp_path / "store") as store:
        store.set_mark("receiver", {"epoch": "another", "next": 0, "stored": []})
        judge = Judge("stop")
        with kind(server.endpoint, store, judge, patterns=topic, start="earliest", **options) as receiver:
            assert receiver.join(30)

        assert (judge.asked, len(store)) == ([(EpochMismatch, None)], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_not_there_reaches_on_exception_and_is_tried_again(kind):
    judge = Judge("retry")

    with kind("tcp://127.0.0.1:1", print, judge, timeout_s=0.05) as receiver:
        until(lambda: len(judge.asked) >= 2)

    assert set(judge.asked) == {(RequestTimeout, None)}
    assert receiver.error is None


BLOCKING = """
import sys
if sys.argv[1] == "patched":
    from gevent import monkey
    monkey.patch_all()
import threading, time
from gevent.monkey import get_original
from zstreampub import ThreadedReceiver

sleep = get_original("time", "sleep")       # holds all of its thread
got, ended = [], threading.Event()

def work(message):
    if message.payload == 0:
        sleep(1.2)      # more than two heartbeats, and more than the lease
    time.sleep(0.001)
    got.append((message.payload, message.delivery))
    if len(got) == 20:
        ended.set()

receiver = ThreadedReceiver(sys.argv[2], work, lambda error, message: "stop", consumer="blocked", patterns="blocked",
                            start="earliest", ack_wait_s=0.5, heartbeat_s=0.25)
for turn in range(3):
    receiver.start()
    if turn == 2:
        assert ended.wait(30)
    receiver.shutdown()
assert got == [(number, 1) for number in range(20)], got
assert receiver.error is None, receiver.error
print("done")
"""


@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_a_callback_that_blocks_its_thread_keeps_connection_and_leases(patched, server, client):
    if "blocked" in {one["consumer"] for one in client.consumers()}:
        client.delete_consumer("blocked")
    else:
        client.publish_many("blocked", list(range(20)))

    done = subprocess.run([sys.executable, "-c", BLOCKING, patched, server.endpoint], capture_output=True, text=True,
                          timeout=60)

    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


MEMORY = """
import sys, threading
from zstreampub import ThreadedReceiver

go_on, got = threading.Event(), []

def anon():
    with open("/proc/self/status") as file:
        return int(file.read().partition("RssAnon:")[2].split()[0]) // 1024

def work(message):
    if not got:
        got.append(1)
        print("blocked", anon(), flush=True)
        sys.stdin.readline()
        print("still", anon(), flush=True)
    got.append(len(message.payload))

with ThreadedReceiver(sys.argv[1], work, lambda error, message: "stop", patterns="large", start="earliest",
                      until=int(sys.argv[2])) as receiver:
    receiver.join()
print(len(got) - 1, flush=True)
"""


def test_a_receiver_whose_callback_is_slow_holds_little_in_memory(server, client):
    count, size = 4000, 20_000      # 80 MB
    with client.producer() as producer:
        futures = [producer.publish("large", bytes(size)) for _ in range(count)]
    child = subprocess.Popen([sys.executable, "-c", MEMORY, server.endpoint, str(futures[-1].get() + 1)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with child:
        before = int(child.stdout.readline().split()[1])
        gevent.sleep(0.5)       # what could come would be here by now
        child.stdin.write("\n")
        child.stdin.flush()
        after = int(child.stdout.readline().split()[1])
        assert int(child.stdout.readline()) == count

    assert after - before < 16, "MiB"
