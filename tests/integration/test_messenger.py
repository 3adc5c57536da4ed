"""The messenger: send and subscribe in programs that know nothing of gevent."""

import subprocess
import sys

import gevent
import pytest

from tests.processes import ServerProcess, wait_until
from zstreampub import Client, Messenger
from zstreampub.errors import InvalidOption, InvalidTopic, RequestError, RequestTimeout

SETTINGS = {"heartbeat_s": 0.5}


@pytest.fixture
def messenger(server):
    with Messenger(server.endpoint) as messenger:
        yield messenger


def until(condition):
    wait_until(condition, "what was waited for")


def test_a_callback_gets_the_payload_and_the_message(messenger):
    got = []
    messenger.subscribe("news.eu", lambda payload, message: got.append((payload, message.topic, message.offset)))

    offset = messenger.send("news.eu", {"n": 1})

    until(lambda: got)
    assert got == [({"n": 1}, "news.eu", offset)]


def test_a_send_waits_until_as_many_have_acknowledged(server, messenger):
    got = []
    with Messenger(server.endpoint) as one, Messenger(server.endpoint) as other:
        one.subscribe("two", lambda payload, _: got.append(payload))
        other.subscribe("two", lambda payload, _: got.append(payload))

        messenger.send("two", 1, ack=2)
        assert got == [1, 1]

        with pytest.raises(RequestTimeout, match="2 of 3 subscribers") as told:
            messenger.send("two", 2, ack=3, timeout_s=0.3)
    assert (type(told.value.offset), len(told.value.by)) == (int, 2)


def test_a_message_comes_again_when_the_callback_has_raised(messenger):
    deliveries = []

    def fail_once(_, message):
        deliveries.append(message.delivery)
        if message.delivery == 1:
            raise ValueError("not yet")

    messenger.subscribe("again", fail_once)
    messenger.send("again", 1, ack=1)

    assert deliveries == [1, 2]


def test_a_later_callback_takes_the_place_of_the_former(messenger):
    first, second = [], []
    messenger.subscribe("place", lambda payload, _: first.append(payload))
    messenger.subscribe("place", lambda payload, _: second.append(payload))

    messenger.send("place", 1, ack=1)

    assert (first, second) == ([], [1])


def test_what_is_not_subscribed_to_any_more_does_not_come(server, messenger):
    got = []
    messenger.subscribe("over", lambda payload, _: got.append(payload))

    messenger.unsubscribe("over")

    messenger.send("over", 1)
    with Client(server.endpoint) as client:
        assert not [one for one in client.consumers() if one["patterns"] == ["over"]]
    with pytest.raises(RequestError, match="Nothing was subscribed to 'over'"):
        messenger.unsubscribe("over")
    assert got == []


def test_a_messenger_with_a_name_gets_what_came_while_it_was_away(server, messenger):
    got = []
    with Messenger(server.endpoint, "billing") as away:
        away.subscribe("bills.>", lambda payload, _: got.append(payload))
    messenger.send("bills.eu", 1)

    with Messenger(server.endpoint, "billing") as back:
        back.subscribe("bills.>", lambda payload, _: got.append(payload))
        until(lambda: got)

    assert got == [1]


@pytest.mark.parametrize(("one", "other"), [
    (("x", "a.b"), ("x.a", "b")),
    ((80 * "n", "a"), (80 * "n", 200 * "b")),
    ((".".join(30 * "n"), "a"), (".".join(30 * "n"), ".".join(31 * "b"))),
])
def test_every_name_and_topic_that_is_allowed_is_a_subscription_of_its_own(one, other, server):
    got = []
    with Messenger(server.endpoint, one[0]) as first, Messenger(server.endpoint, other[0]) as second:
        first.subscribe(one[1], lambda payload, _: got.append(("first", payload)))
        second.subscribe(other[1], lambda payload, _: got.append(("second", payload)))

        first.send(other[1], 2, ack=1)
        first.send(one[1], 1, ack=1)

    assert got == [("second", 2), ("first", 1)]


def test_a_callback_may_send(messenger):
    got = []
    messenger.subscribe("question", lambda payload, _: messenger.send("answer", payload + 1))
    messenger.subscribe("answer", lambda payload, _: got.append(payload))

    messenger.send("question", 1, ack=1)

    until(lambda: got)
    assert got == [2]


def test_who_only_sends_starts_one_thread_and_reads_nothing(server):
    with Client(server.endpoint) as client, Messenger(server.endpoint) as messenger:
        before = len(client.subscriptions())
        messenger.send("only", 1)

        assert len(client.subscriptions()) == before


def test_a_server_that_is_away_for_a_while_is_waited_for_and_then_told(tmp_path):
    with ServerProcess(tmp_path, heartbeat_s=0.5) as server, Messenger(server.endpoint) as messenger:
        got = []
        messenger.subscribe("t", lambda payload, _: got.append(payload))
        server.kill()
        with pytest.raises(RequestTimeout, match=r"within 0.2 s"):
            messenger.send("t", 0, timeout_s=0.2)
        sending = gevent.spawn(messenger.send, "t", 1)
        with server.again():
            sending.get(timeout=30)
            until(lambda: 1 in got)

    assert got == [1]


@pytest.mark.parametrize(("call", "error"), [
    (lambda one: one.send("a..b", 1), InvalidTopic),
    (lambda one: one.send("a", 1, ack=-1), InvalidOption),
    (lambda one: one.subscribe("a..b", print), InvalidTopic),
    (lambda one: one.subscribe("a", 7), InvalidOption),
    (lambda _: Messenger(name="no name"), InvalidOption),
    (lambda _: Messenger(name=81 * "n"), InvalidOption),
    (lambda _: Messenger(name=".".join(31 * "n")), InvalidOption),
])
def test_what_is_wrong_is_refused_at_once(call, error, messenger):
    with pytest.raises(error):
        call(messenger)


PROGRAM = """
import sys
if sys.argv[1] == "patched":
    from gevent import monkey
    monkey.patch_all()
import threading, time
from zstreampub import Messenger

got = []
def callback(payload, message):
    time.sleep(0.01)
    got.append(payload)

for turn in range(2):
    messenger = Messenger(sys.argv[2])
    messenger.subscribe("plain." + sys.argv[1], callback)
    threads = [threading.Thread(target=messenger.send, args=("plain." + sys.argv[1], n), kwargs={"ack": 1})
               for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messenger.stop()
print(sorted(got))
"""


@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_it_works_in_programs_that_know_nothing_of_gevent(patched, server):
    done = subprocess.run([sys.executable, "-c", PROGRAM, patched, server.endpoint], capture_output=True, text=True,
                          timeout=60)

    assert (done.returncode, done.stdout) == (0, "[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]\n"), done.stderr
