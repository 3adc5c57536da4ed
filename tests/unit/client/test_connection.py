"""Calls of the client, and how it finds, loses and finds again its server."""

import gc
import os
import socket
import threading

import gevent
import pytest

from tests.unit.client.fake_server import DEADLINE_S, FakeServer, outcome, spawned, turn
from zstreampub.client import Client
from zstreampub.errors import (
    ConnectionLost,
    InvalidOption,
    InvalidPayload,
    InvalidTopic,
    RequestError,
    RequestTimeout,
    ZStreamPubError,
)


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def hold(request):
    """Leave a request without an answer."""


def test_a_call_returns_what_the_server_answers(server, client):
    server.on["stats"] = lambda request: request.ok({"args": list(request.args)})

    assert client.stats() == {"args": []}
    assert client.about()["epoch"] == "log-1"
    server.on["add"] = lambda request: request.ok(sum(request.args))
    assert client.call("add", 1, 2) == 3


def test_messages_come_as_messages_and_nothing_as_none(server, client):
    server.on["get"] = lambda request: request.ok(
        {"topic": "a", "offset": 7, "time": 1.5, "payload": [1], "key": b"k"} if request.args == [7] else None)
    server.on["last"] = lambda request: request.ok(
        {"topic": "a", "offset": 7, "time": 1.5, "payload": b"\xc1", "error": "InvalidPayload"})

    message, nothing, broken = client.get(7), client.get(8), client.last("a", "k")

    assert (message.topic, message.offset, message.time, message.payload, message.key) == ("a", 7, 1.5, [1], b"k")
    assert nothing is None
    assert broken.payload.raw == b"\xc1"
    assert server.named("last")[0].args == ["a", "k"]


def test_an_error_is_raised_as_the_class_that_the_wire_names(server, client):
    server.on["topics"] = lambda request: request.error("InvalidTopic", "Two dots.")

    with pytest.raises(InvalidTopic, match="Two dots"):
        client.topics("a..b")


@pytest.mark.parametrize("answer, text", [
    (("QuotaExceeded", "Pay more.", None), "QuotaExceeded: Pay more."),
    (("by_name", "Not a class.", None), "by_name: Not a class."),
])
def test_an_error_with_an_unknown_name_still_says_its_name(server, client, answer, text):
    server.on["stats"] = lambda request: request.send("ERR", answer)

    with pytest.raises(ZStreamPubError) as caught:
        client.stats()

    assert str(caught.value) == text
    assert caught.value.name == answer[0]


@pytest.mark.parametrize("args", [None, [], 7, "text", {}])
def test_an_error_without_name_or_text_is_still_an_error(server, client, args):
    server.on["stats"] = lambda request: request.send("ERR", args)

    with pytest.raises(ZStreamPubError):
        client.stats()


def test_a_call_that_answers_with_a_stream_is_refused(server, client):
    server.on["follow"] = lambda request: request.send("STREAM", 1)

    with pytest.raises(RequestError, match="stream"):
        client.call("follow")


def test_arguments_that_cannot_be_sent_are_refused_and_leave_nothing_behind(server, client):
    with pytest.raises(InvalidPayload):
        client.call("add", object())

    assert client.about() is not None
    assert not client._channels._channels


def test_a_call_without_an_answer_ends_in_time_and_a_late_answer_is_ignored(server, client):
    server.on["stats"] = hold
    with pytest.raises(RequestTimeout):
        client.call("stats", timeout_s=0.05)

    server.wait_for("stats").ok("late")
    server.on["stats"] = lambda request: request.ok("in time")

    assert client.stats() == "in time"


def test_a_call_waits_for_a_server_that_starts_later(server):
    server.stop()
    with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        waiting = spawned(client.about)
        turn()
        assert not client.is_connected

        server.start()

        assert outcome(waiting)["epoch"] == "log-1"


def test_a_call_that_never_found_a_server_is_not_run_later(server):
    server.stop()
    with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        with pytest.raises(RequestTimeout, match="No connection to the server at tcp://"):
            client.call("drop_everything", timeout_s=0.05)

        server.start()
        client.about()

    assert not server.named("drop_everything")


def test_a_reading_call_is_asked_again_after_the_connection_was_lost(server, client):
    server.on["topics"] = hold
    waiting = spawned(client.topics)
    server.wait_for("topics")
    server.on["topics"] = lambda request: request.ok(["again"])

    server.restart()

    assert outcome(waiting) == ["again"]


def test_a_call_that_may_have_run_is_not_run_again_after_the_connection_was_lost(server, client):
    server.on["charge"] = hold
    waiting = spawned(client.call, "charge", 7)
    server.wait_for("charge")

    server.restart()

    assert isinstance(outcome(waiting), ConnectionLost)
    client.about()
    assert len(server.named("charge")) == 1


def test_a_reading_call_is_asked_again_when_the_server_is_about_to_stop(server, client):
    answers = iter(("ServerDraining", None))
    server.on["topics"] = lambda request: request.error("ServerDraining") if next(answers) else request.ok([])

    assert client.topics() == []

    first, second = server.named("topics")
    assert first.id != second.id


def test_a_killed_caller_leaves_nothing_behind(server, client):
    server.on["stats"] = hold
    client.about()
    waiting = spawned(client.stats)
    server.wait_for("stats")

    waiting.kill()

    assert not client._channels._channels
    assert not len(client._channels.deadlines)


def test_the_next_address_is_tried_where_the_first_has_no_server(server):
    with Client([free_address(), server.endpoint], timeout_s=DEADLINE_S) as client:
        assert client.about()["epoch"] == "log-1"


def test_the_client_moves_to_another_address_when_its_server_goes(server):
    other = FakeServer()
    with Client([server.endpoint, other.endpoint], timeout_s=DEADLINE_S) as client:
        client.about()

        server.stop()
        client.about()

        assert other.named("about")
    other.stop()


@pytest.mark.parametrize("address", ["", "nonsense", "tcp://", "http://host:1", [], ["tcp://127.0.0.1:x"], [7]])
def test_an_address_that_cannot_be_is_refused_at_once(address):
    with pytest.raises(InvalidOption):
        Client(address)


@pytest.mark.parametrize("options", [dict(timeout_s=0), dict(timeout_s=-1), dict(timeout_s="5"),
                                     dict(heartbeat_s=0), dict(timeout_s=float("nan")), dict(timeout_s=True)])
def test_a_time_that_cannot_be_is_refused_at_once(options):
    with pytest.raises(InvalidOption):
        Client("tcp://127.0.0.1:1", **options)


def test_frames_that_make_no_sense_are_counted_and_hurt_nobody(server, client):
    client.about()
    peer = server.requests[0].peer

    for blob in (b"", b"\xc1", b"\x93", b"\x01", b"\x93\x80\xa2OK\x90", os.urandom(40)):
        server.transport.send(peer, blob)

    assert client.about()["epoch"] == "log-1"
    assert client._channels.malformed >= 5


def test_use_from_another_thread_is_refused_with_a_reason(client):
    caught = []

    def use():
        for method in (client.about, client.close, lambda: client.publish("a", 1)):
            try:
                method()
            except RequestError as error:
                caught.append(str(error))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()

    assert len(caught) == 3
    assert all("thread" in text for text in caught)


def test_use_in_a_forked_child_is_refused_and_the_parent_goes_on(server, client):
    client.about()
    reader, writer = os.pipe()

    child = os.fork()
    if not child:
        try:
            client.about()
        except RequestError:
            os.write(writer, b"refused")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)

    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"refused"
    assert client.about()["epoch"] == "log-1"


def test_a_closed_client_answers_everything_with_connection_lost(server, client):
    server.on["stats"] = hold
    waiting = spawned(client.stats)
    server.wait_for("stats")

    client.close()
    client.close()

    assert isinstance(outcome(waiting), ConnectionLost)
    for method in (client.about, lambda: client.publish("a", 1), lambda: client.subscribe("a")):
        with pytest.raises(ConnectionLost):
            method()


def test_two_hundred_clients_leave_no_descriptor_and_no_greenlet_behind(server):
    def open_and_close(count):
        for _ in range(count):
            with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
                client.about()
                client.subscribe("a")

    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    def greenlets():
        return sum(isinstance(one, gevent.Greenlet) and not one.dead for one in gc.get_objects())

    open_and_close(1)
    before = descriptors(), greenlets()

    open_and_close(200)

    server.wait(lambda: descriptors() <= before[0])     # libzmq's own thread closes them
    server.wait(lambda: greenlets() <= before[1])
