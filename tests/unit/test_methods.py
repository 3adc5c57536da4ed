"""Methods of a user's own on our server: whatever they do, the caller hears of it and the server stays."""

import time
from contextlib import contextmanager

import gevent
import pytest
import zerorpc
from gevent.event import Event

import zstreampub
from tests.raw_peer import RawPeer
from zstreampub.broker import Broker
from zstreampub.channels import Peer
from zstreampub.errors import InvalidOption
from zstreampub.methods import MethodCall
from zstreampub.server import Server
from zstreampub.service import Service


@pytest.fixture(autouse=True)
def deadline():
    with gevent.Timeout(30):
        yield


class Own:
    """Methods of all kinds."""

    def __init__(self):
        self.left = Event()
        self.sent = 0

    def add(self, one, other=2):
        """Add two numbers.

        More about it.
        """
        return one + other

    def fail(self, kind):
        raise {"ValueError": ValueError("no"), "SystemExit": SystemExit(3), "KeyboardInterrupt": KeyboardInterrupt(),
               "GreenletExit": gevent.GreenletExit(), "surrogate": ValueError("\udc80")}[kind]

    def give(self, kind):
        return {"set": {1, 2}, "int keys": {1: 2}, "nested int keys": [{"a": [{1: 2}]}], "object": object(),
                "too large": 2**64, "surrogate": "\udc80"}[kind]

    @zerorpc.stream
    def count(self, until):
        """Count."""
        try:
            for number in range(until):
                self.sent = number
                yield number
        finally:
            self.left.set()

    @zerorpc.stream
    def break_off(self):
        yield 1
        raise ValueError("broken off")

    def only_by_name(self, one, *, other=5):
        return [one, other]


@contextmanager
def serving(methods, **options):
    server = Server(methods, **options)
    server.bind("tcp://127.0.0.1:0")
    with RawPeer(server.endpoints[0]) as peer:
        yield server, peer
    server.close()


@pytest.fixture
def own():
    return Own()


@pytest.fixture
def served(own):
    with serving(own) as parts:
        yield parts


def call(peer, name, *args):
    return peer.answer_to(peer.event(name, list(args)))


def test_a_method_is_called_with_its_arguments(served):
    _, peer = served

    assert call(peer, "add", 1, 2) == ("OK", [3])
    assert call(peer, "add", 1) == ("OK", [3])
    assert call(peer, "only_by_name", 1) == ("OK", [[1, 5]])


@pytest.mark.parametrize(("kind", "name"), [
    ("ValueError", "ValueError"), ("SystemExit", "SystemExit"), ("KeyboardInterrupt", "KeyboardInterrupt"),
    ("GreenletExit", "GreenletExit"), ("surrogate", None)])
def test_whatever_a_method_raises_is_answered_without_a_traceback_and_the_server_stays(served, kind, name):
    server, peer = served

    answer, (error, _, traceback) = call(peer, "fail", kind)

    assert (answer, traceback) == ("ERR", None)
    assert name is None or error == name
    assert call(peer, "add", 1, 2) == ("OK", [3])
    assert not server._lane._peers


@pytest.mark.parametrize("kind", ["set", "int keys", "nested int keys", "object", "too large", "surrogate"])
def test_a_result_that_cannot_be_carried_is_the_callers_error(served, kind):
    _, peer = served

    answer, (error, _, traceback) = call(peer, "give", kind)

    assert (answer, error, traceback) == ("ERR", "InvalidPayload", None)


@pytest.mark.parametrize(("name", "args", "error"), [
    ("nothing", [], "UnknownMethod"), ("__init__", [], "UnknownMethod"), ("left", [], "UnknownMethod"),
    ("run", [], "UnknownMethod"), ("close", [], "UnknownMethod"), ("add", [], "MalformedRequest"),
    ("add", [1, 2, 3], "MalformedRequest"), ("add", 5, "MalformedRequest"), ("add", None, "MalformedRequest"),
    ("add", {"one": 1}, "MalformedRequest")])
def test_a_call_that_fits_no_method_is_refused_by_name(served, name, args, error):
    _, peer = served

    answer, (kind, _, traceback) = peer.answer_to(peer.event(name, args))

    assert (answer, kind, traceback) == ("ERR", error, None)


# --- streams of a user's own ---------------------------------------------------------------------


def items(peer, channel, count):
    return [peer.answer_to(channel) for _ in range(count)]


def test_a_stream_of_ones_own_sends_as_much_as_was_granted(served, own):
    _, peer = served
    channel = peer.event("count", [5])

    assert items(peer, channel, 1) == [("STREAM", 0)]
    call(peer, "add", 1)
    assert own.sent == 1
    peer.event("_zpc_more", [2], response_to=channel)
    assert items(peer, channel, 2) == [("STREAM", 1), ("STREAM", 2)]
    call(peer, "add", 1)
    assert own.sent == 3 and not own.left.is_set()
    peer.event("_zpc_more", [2], response_to=channel)

    assert items(peer, channel, 3) == [("STREAM", 3), ("STREAM", 4), ("STREAM_DONE", None)]
    assert own.left.is_set()


def test_a_stream_that_fails_says_so_after_its_items(served):
    _, peer = served
    channel = peer.event("break_off", [])
    peer.event("_zpc_more", [5], response_to=channel)

    assert items(peer, channel, 2) == [("STREAM", 1), ("ERR", ["ValueError", "broken off", None])]


def test_a_stream_ends_when_its_client_is_silent_for_two_heartbeats(own):
    with serving(own, heartbeat=0.05) as (server, peer):
        channel = peer.event("count", [5])
        assert items(peer, channel, 1) == [("STREAM", 0)]

        assert own.left.wait(10)
        assert not server._lane._peers


def test_a_stream_ends_when_its_client_has_left(own):
    with serving(own, heartbeat=0.05) as (server, peer):
        with RawPeer(server.endpoints[0]) as leaving:
            channel = leaving.event("count", [1 << 40])
            leaving.event("_zpc_more", [1 << 30], response_to=channel)
            assert items(leaving, channel, 2) == [("STREAM", 0), ("STREAM", 1)]

        assert own.left.wait(10)
        assert call(peer, "add", 1, 2) == ("OK", [3])


def test_a_call_whose_client_leaves_before_it_has_begun_is_dropped_without_a_word(served, own, capfd):
    server, peer = served
    left = Peer(b"left", server._events._router)
    early = MethodCall(server._lane, left, b"1", zerorpc.Context())
    server._lane.register(early)
    server._lane._peers[left.id] = left

    early.run(server._methods, {"message_id": b"1", "v": 3}, "count", [5])
    server._lane.left(left.id)

    assert call(peer, "add", 1, 2) == ("OK", [3])
    assert own.sent == 0 and not own.left.is_set()
    assert capfd.readouterr().err == ""


# --- what the server is made of ------------------------------------------------------------------


def test_a_dict_of_methods_is_served_also_of_those_written_in_c():
    with serving({"now": time.time, "most": max, "twice": lambda one: 2 * one}) as (_, peer):
        assert call(peer, "twice", 4) == ("OK", [8])
        assert call(peer, "most", 4, 5) == ("OK", [5])
        assert call(peer, "now")[0] == "OK"


def test_a_server_that_is_its_own_service_does_not_give_itself_away():
    class Mine(Server):
        def hello(self):
            return "hello"

    server = Mine()
    server.bind("tcp://127.0.0.1:0")
    with RawPeer(server.endpoints[0]) as peer:
        names = call(peer, "_zerorpc_list")[1][0]
        assert call(peer, "hello") == ("OK", ["hello"])
        for name in ("drain", "stop", "run", "close", "bind", "endpoints"):
            assert call(peer, name)[1][0] == "UnknownMethod"
    server.close()

    assert names == ["hello"]


def test_a_pool_is_refused_because_a_full_one_stops_all_heartbeats():
    with pytest.raises(InvalidOption, match="heartbeats"):
        Server(Own(), pool_size=3)


def test_two_heartbeats_are_refused():
    with Broker.open("memory:") as broker, pytest.raises(InvalidOption):
        Server(Service(broker), heartbeat=1)


def test_zerorpcs_own_questions_are_answered(served):
    _, peer = served

    assert call(peer, "_zerorpc_ping") == ("OK", [["pong", "Own"]])
    assert call(peer, "_zerorpc_name") == ("OK", ["Own"])
    assert "add" in call(peer, "_zerorpc_list")[1][0]
    assert call(peer, "_zerorpc_help", "add") == ("OK", ["Add two numbers.\n\nMore about it."])
    assert call(peer, "_zerorpc_args", "add") == ("OK", [[["one", "other"], None, None, [2]]])
    _, (inspected,) = call(peer, "_zerorpc_inspect")
    assert inspected["name"] == "Own"
    assert inspected["methods"]["add"]["args"] == [{"name": "one"}, {"name": "other", "default": 2}]
    assert inspected["methods"]["only_by_name"]["args"] == [{"name": "one"}]
    assert inspected["methods"]["count"]["doc"] == "Count."


def test_the_service_can_be_inspected_too():
    with Broker.open("memory:") as broker, serving(Service(broker)) as (_, peer):
        methods = call(peer, "_zerorpc_inspect")[1][0]["methods"]

    assert [arg["name"] for arg in methods["publish"]["args"]] == ["topic", "payload", "options"]
    assert [arg["name"] for arg in methods["subscribe"]["args"]] == ["patterns", "options"]
    assert all(method["doc"] for method in methods.values())


# --- a service of a user's own, and hooks --------------------------------------------------------


class Shouting(Service):
    def publish(self, topic, payload, options=None):
        """Publish in capitals."""
        return super().publish(topic, payload.upper(), options)

    def hello(self):
        """Greet."""
        return "hello"


def test_a_method_that_a_subclass_overrides_is_the_one_that_is_called():
    with Broker.open("memory:") as broker, serving(Shouting(broker)) as (_, peer):
        assert call(peer, "publish", "a", "quiet") == ("OK", [0])
        assert call(peer, "publish_many", "a", ["as it is"]) == ("OK", [[1, 2]])
        assert call(peer, "hello") == ("OK", ["hello"])

        assert [broker.get(offset).payload for offset in (0, 1)] == ["QUIET", "as it is"]


def test_a_method_that_is_set_on_the_service_itself_is_the_one_that_is_called():
    with Broker.open("memory:") as broker:
        service = Service(broker)
        service.publish = lambda topic, payload: "mine"
        with serving(service) as (_, peer):
            assert call(peer, "publish", "a", 1) == ("OK", ["mine"])
        assert broker.next == 0


class Guard:
    """Middleware that remembers what it saw; refuses where the header has no token."""

    def __init__(self):
        self.headers, self.done = [], []
        self.ended = Event()

    def load_task_context(self, header):
        self.headers.append(header.get("token"))

    def server_before_exec(self, event):
        if event.header.get("token") != "right":
            raise PermissionError("no token")

    def server_after_exec(self, event, _):
        self.done.append(event.name)
        self.ended.set()


@pytest.mark.parametrize("method", ["publish", "subscribe", "about"])
@pytest.mark.parametrize("late", [False, True], ids=["hook before the server", "hook after the server"])
def test_a_hook_guards_every_method_whenever_it_was_registered(method, late):
    context, guard = zerorpc.Context(), Guard()
    with Broker.open("memory:") as broker:
        if not late:
            context.register_middleware(guard)
        with serving(Service(broker), context=context) as (_, peer):
            if late:
                context.register_middleware(guard)
            args = {"publish": ["a", 1], "subscribe": ["a"], "about": []}[method]

            refused = peer.answer_to(peer.event(method, args))
            allowed = peer.answer_to(peer.event(method, args, token="right"))

            assert refused == ("ERR", ["PermissionError", "no token", None])
            assert allowed[0] in ("OK", "STREAM")
            assert guard.headers == [None, "right"]
            for id in tuple(broker.subscriptions):
                broker.unsubscribe(id)
            assert guard.ended.wait(10)
            assert guard.done == [method]


def test_a_hook_that_fails_after_a_stream_harms_nobody():
    class Failing:
        def server_after_exec(self, event, _):
            raise ValueError("the hook failed")

    context = zerorpc.Context()
    context.register_middleware(Failing())
    with Broker.open("memory:") as broker, serving(Service(broker), context=context) as (server, peer):
        channel = peer.open_stream("a")
        broker.unsubscribe(next(iter(broker.subscriptions)))

        assert peer.answer_to(channel)[1][0] == "Unsubscribed"
        assert broker.publish("a", 1) == 0
        assert server._failure is None


def test_the_public_names_lead_to_their_homes():
    assert zstreampub.Server is Server and zstreampub.Broker is Broker and zstreampub.Service is Service
