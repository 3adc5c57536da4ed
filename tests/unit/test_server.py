"""The server and where it listens: our own router, libzmq's for all that it alone can do, and both side by side."""

import os
import subprocess
import sys

import gevent
import msgpack
import pytest
import zmq

from tests.processes import ROOT, client, wait_until
from tests.unit.zmtp.speaking import DEADLINE_S, Wire, hello, message
from zstreampub import server as server_module
from zstreampub.errors import BindError
from zstreampub.server import Server
from zstreampub.sockets import bind_all

LARGE_BYTES = 32 << 20


@pytest.fixture(autouse=True)
def deadline():
    with gevent.Timeout(DEADLINE_S):
        yield


@pytest.fixture
def opened():
    """Make servers of two methods, which are closed at the end."""
    servers = []

    def open():
        servers.append(Server({"echo": lambda value: value, "large": lambda: bytes(LARGE_BYTES)}, heartbeat=5))
        return servers[-1]
    yield open
    for server in servers:
        server.close()


def ask(endpoint, value):
    with client(endpoint) as asking:
        return asking.echo(value)


def test_a_port_or_a_path_of_another_server_is_refused_and_it_says_so(opened, tmp_path):
    first, second = opened(), opened()
    bind_all(first, ["tcp://127.0.0.1:0", f"ipc://{tmp_path}/a.sock"])

    for endpoint in first.endpoints:
        with pytest.raises(BindError) as caught:
            bind_all(second, [endpoint])

        assert str(caught.value) == (
            f"Cannot bind {endpoint}: Address already in use. Is another server running there?")
        assert ask(endpoint, 7) == 7


@pytest.mark.parametrize("place, why", [("no/a.sock", "No such file or directory"),
                                        ("a" * 100, "ipc path .* is longer than 107 characters.*")])
def test_a_path_that_cannot_be_is_refused_with_the_reason(opened, tmp_path, place, why):
    with pytest.raises(BindError, match=f"Cannot bind ipc://.*: {why}.$"):
        bind_all(opened(), [f"ipc://{tmp_path}/{place}"])


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://127.0.0.1:65536", "http://127.0.0.1:1"])
def test_what_is_no_endpoint_is_refused(opened, endpoint):
    with pytest.raises(BindError, match=f"Cannot bind {endpoint}: "):
        bind_all(opened(), [endpoint])


def test_it_serves_at_all_its_endpoints_and_tells_them(opened, tmp_path):
    server = opened()

    bind_all(server, ["tcp://127.0.0.1:0", f"ipc://{tmp_path}/a.sock", "tcp://*:0", "ipc://*"])

    assert server.endpoints[1] == f"ipc://{tmp_path}/a.sock"
    for number, endpoint in enumerate(server.endpoints):
        assert ask(endpoint.replace("0.0.0.0", "127.0.0.1"), number) == number


def test_after_a_socket_option_libzmq_serves_what_is_bound_from_then_on(opened):
    server = opened()
    server.bind("tcp://127.0.0.1:0")

    server._events.setsockopt(zmq.IPV6, 1)
    server.bind("tcp://127.0.0.1:0")

    assert len(server._events._router.endpoints) == 1
    assert [ask(endpoint, endpoint) for endpoint in server.endpoints] == server.endpoints


def test_it_may_connect_to_a_peer_that_listens(opened):
    context = zmq.Context()
    peer = context.socket(zmq.DEALER)
    port = peer.bind_to_random_port("tcp://127.0.0.1")

    opened().connect(f"tcp://127.0.0.1:{port}")
    peer.send_multipart([b"", msgpack.packb([{"message_id": b"1", "v": 3}, "echo", [7]])])
    wait_until(lambda: peer.poll(0), "the answer")

    assert msgpack.unpackb(peer.recv_multipart()[1])[1:] == ["OK", [7]]
    context.destroy(linger=0)


def test_closing_while_somebody_does_not_read_waits_no_longer_than_said_and_is_no_failure(opened, caplog, monkeypatch):
    monkeypatch.setattr(server_module, "_LINGER_MS", 100)
    server = opened()
    server.bind("tcp://127.0.0.1:0")
    running = gevent.spawn(server.run)
    with Wire(server.endpoints[0]) as wire:
        wire.send(hello() + message(b"", msgpack.packb([{"message_id": b"1", "v": 3}, "large", []])))
        wire.receive_hello()
        wait_until(lambda: any(link.is_full for link in server._events._router._links.values()), "an answer that waits")

        closing = [gevent.spawn(server.close) for _ in range(2)]
        gevent.joinall(closing, raise_error=True)

    running.get()
    assert server._failure is None
    assert not [record for record in caplog.records if record.levelname == "CRITICAL"]


PATCHED = """
from gevent import monkey
monkey.patch_all()
import logging, sys, threading
import gevent
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
from zstreampub import Broker, Server, Service
from zstreampub.client import Client
path, = sys.argv[1:]
with Broker.open("memory:") as broker:
    server = Server(Service(broker))
    server.bind("tcp://127.0.0.1:0")
    server.bind(f"ipc://{path}")
    for address in (server.endpoints[0].replace("127.0.0.1", "localhost"), server.endpoints[1]):
        with Client(address, heartbeat_s=0.1) as client:
            with client.subscribe("a") as subscription:
                offset = client.publish("a", bytes(1_000_000))
                message = next(iter(subscription))
                assert (message.offset, len(message.payload)) == (offset, 1_000_000), message
                gevent.sleep(0.5)
                assert client.is_connected
    with gevent.Timeout(30):
        while server._events._router._links:
            gevent.sleep(0.01)
    server.close()
print("fine")
"""


def test_all_of_it_works_where_everything_is_patched(tmp_path):
    done = subprocess.run([sys.executable, "-c", PATCHED, f"{tmp_path}/a.sock"], capture_output=True, text=True,
                          timeout=60, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})

    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr
    assert "Traceback" not in done.stderr
