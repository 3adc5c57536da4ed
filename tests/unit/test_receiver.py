"""Receivers of plain ZeroMQ sockets: verdicts, callbacks, filters, one life after the other."""

import subprocess
import sys

import gevent
import pytest
import zmq

from zstreampub import FifoStore, Receiver, Source, ThreadedReceiver
from zstreampub.errors import (
    BindError,
    ConnectionLost,
    InvalidOption,
    InvalidTopic,
    RequestError,
    RequestTimeout,
    SpoolFull,
)

KINDS = [Receiver, ThreadedReceiver]


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def pair(context):
    """A socket to send on, and one to receive from."""
    sender, receiver = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    sender.bind("inproc://pair")
    receiver.connect("inproc://pair")
    return sender, receiver


def until(condition):
    with gevent.Timeout(30):
        while not condition():
            gevent.sleep(0.001)


def never(error, message):
    raise AssertionError("there was nothing to judge") from error


class Judge:
    """Says *verdicts*, one after the other, and notes what about."""

    def __init__(self, *verdicts):
        self.asked = []
        self._verdicts = list(verdicts)

    def __call__(self, error, message):
        self.asked.append((type(error), message))
        return self._verdicts.pop(0)


class Failing:
    """A callback that notes what it gets, and fails with some of it, as often as is said."""

    def __init__(self, **times):
        self.got = []
        self._times = {name.encode(): count for name, count in times.items()}

    def __call__(self, message):
        self.got.append(message)
        if self._times.get(message, 0):
            self._times[message] -= 1
            raise ValueError(message)


@pytest.mark.parametrize("kind", KINDS)
def test_one_frame_is_bytes_and_several_are_a_list(kind, pair):
    sender, socket = pair
    got = []

    with kind(socket, got.append, never) as receiver:
        sender.send(b"one")
        sender.send_multipart([b"two", b"", b"frames"])
        until(lambda: len(got) == 2)

    assert got == [b"one", [b"two", b"", b"frames"]]
    assert (receiver.error, receiver.is_running, receiver.offset) == (None, False, None)


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_and_stops_any_number_of_times_and_the_socket_stays_open(kind, pair):
    sender, socket = pair
    got = []
    receiver = kind(socket, got.append, never)

    for number in range(5):
        sender.send(b"%d" % number)
        with receiver:
            until(lambda number=number: len(got) > number)
        receiver.shutdown()
    sender.send(b"after")

    assert got == [b"0", b"1", b"2", b"3", b"4"]
    assert socket.recv() == b"after"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("verdict", "got", "error"), [
    ("skip", [b"a", b"bad", b"c"], None),
    ("retry", [b"a", b"bad", b"bad", b"c"], None),
    ("stop", [b"a", b"bad"], ValueError),
])
def test_on_exception_decides(kind, verdict, got, error, pair):
    sender, socket = pair
    callback, judge = Failing(bad=1), Judge(verdict)
    for message in (b"a", b"bad", b"c"):
        sender.send(message)

    with kind(socket, callback, judge) as receiver:
        until(lambda: callback.got == got)
        if error:
            assert receiver.join(30)

    assert judge.asked == [(ValueError, b"bad")]
    assert type(receiver.error) is (error or type(None))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verdict", [None, "reject", 7])
def test_any_other_verdict_stops_it_with_an_error_that_says_so(kind, verdict, pair):
    sender, socket = pair
    sender.send(b"bad")

    with kind(socket, Failing(bad=1), Judge(verdict)) as receiver:
        assert receiver.join(30)

    assert isinstance(receiver.error, InvalidOption)
    assert "'stop', 'skip' or 'retry'" in str(receiver.error)


@pytest.mark.parametrize("kind", KINDS)
def test_an_on_exception_that_fails_stops_it(kind, pair):
    sender, socket = pair
    sender.send(b"bad")

    with kind(socket, Failing(bad=1), lambda error, message: message.verdict) as receiver:
        assert receiver.join(30)

    assert isinstance(receiver.error, AttributeError)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shutdown_does_not_wait_for_the_next_try(kind, pair):
    sender, socket = pair
    callback = Failing(bad=10**6)
    sender.send(b"bad")

    with kind(socket, callback, lambda error, message: "retry") as receiver:
        until(lambda: len(callback.got) >= 2)

    assert receiver.error is None
    assert not socket.poll(0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_callback_can_be_replaced_while_it_runs(kind, pair):
    sender, socket = pair
    before, after = [], []

    with kind(socket, before.append, never) as receiver:
        sender.send(b"1")
        until(lambda: before)
        receiver.callback = after.append
        sender.send(b"2")
        until(lambda: after)

    assert (before, after) == ([b"1"], [b"2"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_sees_each_message_once_and_none_is_not_handed_over(kind, pair):
    sender, socket = pair
    seen = []
    callback = Failing(B=1)

    def shout(message):
        seen.append(message)
        return message.upper() if message != b"a" else None

    with kind(socket, callback, Judge("retry"), filter=shout):
        for message in (b"a", b"b", b"c"):
            sender.send(message)
        until(lambda: len(callback.got) == 3)

    assert callback.got == [b"B", b"B", b"C"]
    assert seen == [b"a", b"b", b"c"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_takes_what_comes(kind, pair, tmp_path):
    sender, socket = pair

    with FifoStore(tmp_path / "store") as store:
        with kind(socket, store, never):
            for number in range(100):
                sender.send(b"%d" % number)
            sender.send_multipart([b"a", b"b"])
            until(lambda: len(store) == 101)
        assert list(store) == [*(b"%d" % number for number in range(100)), [b"a", b"b"]]


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_a_store_takes_at_once_is_stored_in_parts(kind, pair, tmp_path):
    sender, socket = pair
    for number in range(100):
        sender.send(b"%d" % number)
    groups = []

    with FifoStore(tmp_path / "store", max_messages=99) as store:
        add_many = store.add_many
        store.add_many = lambda messages, mark=None: groups.append(add_many(messages, mark))
        with kind(socket, store, judge := Judge("skip")):
            until(lambda: judge.asked and len(store) == 99)

        assert sum(groups) == 99 and len(groups) < 20 and judge.asked == [(SpoolFull, b"99")]


FORKING = """
import os, sys
import zmq
from zstreampub import ThreadedReceiver

context = zmq.Context()
with ThreadedReceiver(context.socket(zmq.PULL), print, lambda error, message: "stop") as receiver:
    child = os.fork()
    if not child:
        receiver.shutdown()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7 and receiver.is_running
print("ended", not receiver.is_running)
"""


def test_the_child_of_a_fork_does_not_wait_for_its_parents_receiver():
    run = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=30)

    assert (run.stdout, run.stderr) == ("ended True\n", "")


@pytest.mark.parametrize("kind", KINDS)
def test_shutdown_in_a_callback_does_not_wait_for_itself(kind, pair):
    sender, socket = pair
    got = []

    def callback(message):
        got.append(message)
        receiver.shutdown()

    receiver = kind(socket, callback, never).start()
    sender.send(b"1")
    assert receiver.join(30)
    sender.send(b"2")

    assert (got, receiver.error) == ([b"1"], None)
    assert socket.recv() == b"2"


@pytest.mark.parametrize("kind", KINDS)
def test_a_socket_that_is_closed_reaches_on_exception(kind, context):
    socket = context.socket(zmq.PULL)
    socket.close()
    judge = Judge("stop")

    with kind(socket, print, judge) as receiver:
        assert receiver.join(30)

    assert judge.asked == [(ConnectionLost, None)]
    with pytest.raises(ConnectionLost):
        receiver.wait_open()


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_is_opened_again_as_often_as_on_exception_says(kind, context):
    taken = context.socket(zmq.PULL)
    port = taken.bind_to_random_port("tcp://127.0.0.1")
    judge = Judge("skip", "retry", "stop")

    with kind(Source.zmq("PULL", f"tcp://127.0.0.1:{port}", bind=True), print, judge) as receiver:
        assert receiver.join(30)

    assert judge.asked == [(BindError, None)] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_described_socket_is_opened_with_each_start(kind, context):
    publisher = context.socket(zmq.PUB)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    got = []
    receiver = kind(Source.zmq(zmq.SUB, f"tcp://127.0.0.1:{port}", subscriptions="a"), got.append, never)

    for _ in range(2):
        with receiver:
            until(lambda: publisher.send(b"b") or publisher.send(b"a") or got)
        assert set(got) == {b"a"}
        got.clear()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("arguments", "options", "error"), [
    (("tcp://127.0.0.1:1", print), {}, InvalidOption),
    (("tcp://127.0.0.1:1", print, "stop"), {}, InvalidOption),
    (("tcp://127.0.0.1:1", print, lambda error: "stop"), {}, InvalidOption),
    (("tcp://127.0.0.1:1", 7, never), {}, InvalidOption),
    (("tcp://127.0.0.1:1", print, never), {"filter": 7}, InvalidOption),
    (("tcp://127.0.0.1:1", print, never), {"patterns": "a..b"}, InvalidTopic),
    ((7, print, never), {}, InvalidOption),
    ((Source.subscribe(), print, never), {"patterns": "a"}, InvalidOption),
])
def test_what_is_wrong_is_refused_at_once(kind, arguments, options, error):
    with pytest.raises(error):
        kind(*arguments, **options)


def test_a_socket_that_only_sends_is_refused():
    with pytest.raises(InvalidOption, match="SUB, PULL, PAIR"):
        Source.zmq("PUSH", "tcp://127.0.0.1:1")


def test_a_green_socket_stays_with_its_hub(pair):
    import zmq.green

    with zmq.green.Context() as context, context.socket(zmq.PULL) as socket:
        with pytest.raises(InvalidOption, match="belongs to its hub"):
            ThreadedReceiver(socket, print, never)
        got = []
        with zmq.Context() as other, other.socket(zmq.PUSH) as sender:
            sender.linger = 0
            socket.connect(f"tcp://127.0.0.1:{sender.bind_to_random_port('tcp://127.0.0.1')}")
            with Receiver(socket, got.append, never):
                sender.send(b"1")
                until(lambda: got)


@pytest.mark.parametrize("kind", KINDS)
def test_patterns_and_stores_are_refused_where_they_make_no_sense(kind, pair, tmp_path):
    _, socket = pair
    with FifoStore(tmp_path / "store") as store, kind(socket, print, never) as receiver:
        with pytest.raises(InvalidOption, match="topics"):
            receiver.subscribe("a", print)
        with pytest.raises(InvalidOption, match="shutdown"):
            receiver.callback = store
        with pytest.raises(RequestError, match="running"):
            receiver.start()
        into = kind("tcp://127.0.0.1:1", store, never)
        with pytest.raises(InvalidOption, match="no other callbacks"):
            into.subscribe("a", print)


@pytest.mark.parametrize("kind", KINDS)
def test_a_socket_without_a_callback_is_not_read(kind, pair):
    with pytest.raises(RequestError, match="callback first"):
        kind(pair[1], None, never).start()


def test_a_source_that_does_not_open_is_told_to_who_waits_for_it():
    with Receiver("tcp://127.0.0.1:1", print, lambda error, message: "stop", timeout_s=30) as receiver:
        with pytest.raises(RequestTimeout, match="not open within"):
            receiver.wait_open(0.01)
