"""zerorpc's hooks on a zstreampub.Server: they run, they may refuse, and none takes the server along."""

import gevent
import pytest
import zerorpc

from tests.processes import client, wait_until
from zstreampub.broker import Broker
from zstreampub.server import Server
from zstreampub.service import Service


class Guard:
    """Middleware that remembers what it saw and raises what it is told."""

    def __init__(self):
        self.before, self.after, self.error = [], [], None

    def server_before_exec(self, request):
        self.before.append(request.name)
        if self.error is not None and request.name != "about":
            raise self.error      # of any kind

    def server_after_exec(self, request, reply):
        self.after.append(request.name)


@pytest.fixture
def served():
    """``(guard, endpoint)`` of a server in this process."""
    context, guard = zerorpc.Context(), Guard()
    context.register_middleware(guard)
    with Broker.open("memory:") as broker:
        server = Server(Service(broker), context=context)
        server.bind("tcp://127.0.0.1:0")
        task = gevent.spawn(server.run)
        yield guard, server.endpoints[0]
        server.close()
        task.get(timeout=10)


def test_hooks_run_around_every_call_and_stream(served):
    guard, endpoint = served
    with client(endpoint, context=zerorpc.Context()) as one:
        one.publish("a", 1)
        list(one.subscribe("a", {"start": "earliest", "until": "end"}))

        wait_until(lambda: guard.after == ["publish", "subscribe"], lambda: f"the hooks, not {guard.after}")
        assert guard.before == ["publish", "subscribe"]


@pytest.mark.parametrize("method", ["publish", "subscribe"])
@pytest.mark.parametrize("error, name", [
    (PermissionError("not you"), "PermissionError"), (SystemExit(3), "SystemExit"),
    (KeyboardInterrupt(), "KeyboardInterrupt"), (gevent.GreenletExit(), "GreenletExit"),
    (ValueError("\ud800"), None)], ids=lambda value: type(value).__name__)
def test_what_a_hook_raises_refuses_the_call_and_nothing_else(served, method, error, name):
    guard, endpoint = served
    with client(endpoint, context=zerorpc.Context()) as one:
        guard.error = error

        with pytest.raises(zerorpc.RemoteError) as refused:
            list(one(method, "a", {} if method == "subscribe" else 1))

        assert refused.value.name == (name or refused.value.name)
        assert one.about()["next"] == 0
        guard.error = None
        assert one.publish("a", 1) == 0
