"""The client's connection by itself: whatever is at the other end, it is up, down or tried again, and it says so."""

import gc
import os
import socket

import gevent
import pytest
import zmq
from gevent.socket import socket as green_socket

from tests.unit.client.fake_server import DEADLINE_S, FakeServer, turn
from tests.unit.zmtp.speaking import GREETING, Noting, Wire, command, hello, message
from zstreampub.client import Client
from zstreampub.client import connection as connection_module
from zstreampub.client.connection import Connection
from zstreampub.errors import InvalidOption, RequestTimeout
from zstreampub.transport import Transport

BEAT_S = 0.05


@pytest.fixture(autouse=True)
def deadline():
    with gevent.Timeout(DEADLINE_S):
        yield


class Told(Noting):
    """What a connection tells; waits for it."""

    def __init__(self):
        super().__init__()
        self.got, self.ups, self.downs, self.retries = [], 0, [], 0
        self.connection = None

    def connect(self, address, heartbeat_s=DEADLINE_S):
        self.connection = Connection(address, heartbeat_s, self._receive, self._up, self._down, self._retry)
        return self.connection

    def _receive(self, _, blob):
        self.got.append(bytes(blob))
        self.changed.set()

    def _up(self):
        self.ups += 1
        self.changed.set()

    def _down(self, why):
        self.downs.append(why)
        self.changed.set()

    def _retry(self):
        self.retries += 1
        self.changed.set()


@pytest.fixture
def told():
    told = Told()
    yield told
    if told.connection is not None:
        told.connection.close()


class Listening:
    """A plain socket that listens, at which a test does by hand what a server does."""

    def __init__(self):
        self.sock = green_socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen()
        self.address = f"tcp://127.0.0.1:{self.sock.getsockname()[1]}"

    def accept(self):
        return Wire(sock=self.sock.accept()[0])

    def welcome(self):
        """Accept, and shake hands."""
        wire = self.accept()
        wire.receive_hello()
        wire.send(hello(b"ROUTER"))
        return wire


@pytest.fixture
def listening():
    listening = Listening()
    yield listening
    listening.sock.close()


@pytest.fixture
def router():
    """A ROUTER of libzmq that sends back what it gets; a function that binds it and returns where."""
    context = zmq.Context()
    sock = context.socket(zmq.ROUTER)

    def answer(peer, blob):
        transport.send(peer, bytes(blob))

    def bind(endpoint):
        if endpoint.startswith("tcp://["):
            sock.setsockopt(zmq.IPV6, 1)
        sock.bind(endpoint)
        return sock.getsockopt_string(zmq.LAST_ENDPOINT)

    transport = Transport(sock, answer)
    yield bind
    transport.close()
    context.destroy(linger=0)


# --- where one can connect to ----------------------------------------------------------------------

@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "tcp://[::1]:*", "ipc", f"ipc://@zstreampub-{os.getpid()}"])
def test_it_connects_to_every_kind_of_address(told, router, endpoint, tmp_path):
    address = router(f"ipc://{tmp_path}/log.sock" if endpoint == "ipc" else endpoint)
    connection = told.connect(address)
    told.wait(lambda: connection.up)

    connection.send(b"hello")

    told.wait(lambda: told.got == [b"hello"])
    assert (told.ups, told.downs, told.retries) == (1, [], 0)


def test_it_connects_to_a_name(told, router):
    port = router("tcp://127.0.0.1:*").rpartition(":")[2]

    told.connect(f"tcp://localhost:{port}")

    told.wait(lambda: told.ups)


def test_a_name_that_there_is_not_is_tried_again_like_a_server_that_is_not_there(told):
    told.connect("tcp://no-such-host.invalid:4242")

    told.wait(lambda: told.retries >= 2)

    assert not told.ups and not told.downs


def test_a_path_that_there_is_not_yet_is_tried_again(told, router, tmp_path):
    told.connect(f"ipc://{tmp_path}/log.sock")
    told.wait(lambda: told.retries >= 2)

    router(f"ipc://{tmp_path}/log.sock")

    told.wait(lambda: told.ups)


@pytest.mark.parametrize("address", [
    "tcp://*:4242", "tcp://127.0.0.1:0", "tcp://127.0.0.1:*", "tcp://127.0.0.1:65536", "tcp://a..b:1",
    f"tcp://{'a' * 64}.example:1", "ipc://", "ipc://@", f"ipc:///{'p' * 107}", "inproc://x", "tcp://a\0b:1", None, 7])
def test_an_address_that_there_cannot_be_is_refused_at_once(address):
    with pytest.raises(InvalidOption, match="is not an address to connect to; one looks like"):
        Told().connect(address)


# --- servers that do not do as they should ---------------------------------------------------------

@pytest.mark.parametrize("said", [b"", GREETING[:20], GREETING, GREETING + command(b"PING", b"\0\0")])
def test_a_server_that_accepts_and_never_shakes_hands_is_given_up_and_tried_again(told, listening, monkeypatch, said):
    monkeypatch.setattr(connection_module, "_CONNECT_TIMEOUT_S", 0.1)
    told.connect(listening.address)
    with listening.accept() as silent:
        silent.send(said)

        assert silent.is_closed()
    told.wait(lambda: told.retries == 1)
    assert not told.ups

    with listening.welcome():
        told.wait(lambda: told.ups)
    told.wait(lambda: told.downs)


def test_a_server_that_does_not_even_accept_is_given_up_and_tried_again(told, monkeypatch, tmp_path):
    monkeypatch.setattr(connection_module, "_CONNECT_TIMEOUT_S", 0.1)
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(f"{tmp_path}/log.sock")
        busy.listen(0)
        waiting.connect(f"{tmp_path}/log.sock")

        told.connect(f"ipc://{tmp_path}/log.sock")

        told.wait(lambda: told.retries >= 2)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" + bytes(8) + b"\x7f\x01", hello(b"PUB"),
                                  GREETING + message(b"", b"x"), GREETING + command(b"ERROR", b"\x03Why"), b""])
def test_whoever_speaks_otherwise_or_closes_is_tried_again_with_pauses(told, listening, said):
    told.connect(listening.address)

    for _ in range(3):
        with listening.accept() as wire:
            wire.send(said)
            wire.sock.shutdown(socket.SHUT_WR)
            assert wire.is_closed()

    told.wait(lambda: told.retries == 3)
    assert not told.ups and not told.downs
    with listening.welcome():
        told.wait(lambda: told.ups)


def test_heartbeats_faster_than_the_pauses_between_tries_make_no_second_connection(told, listening, monkeypatch):
    monkeypatch.setattr(connection_module, "_CONNECT_TIMEOUT_S", 0.2)
    told.connect(listening.address, heartbeat_s=0.01)
    for _ in range(3):
        with listening.accept() as silent:
            assert silent.is_closed()

    with listening.welcome() as wire:
        told.wait(lambda: told.ups)
        listening.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            listening.accept()
        assert told.retries == 3 and wire.receive_frame()


# --- losing it -------------------------------------------------------------------------------------

def test_a_server_that_says_nothing_is_asked_and_then_lost_within_three_heartbeats(told, listening):
    told.connect(listening.address, BEAT_S)
    with listening.welcome() as wire:
        told.wait(lambda: told.ups)
        beats = []
        timer = gevent.get_hub().loop.timer(BEAT_S, BEAT_S)
        timer.start(beats.append, None)

        told.wait(lambda: told.downs)
        timer.stop()
        timer.close()

        assert wire.receive_frame() == (4, b"\x04PING\0\0")
        assert wire.is_closed()
    assert told.downs == ["nothing was heard from it"]
    assert 1 <= len(beats) <= 4
    assert not told.retries


def test_a_server_of_libzmq_that_has_nothing_to_say_answers_and_is_kept(told, router):
    connection = told.connect(router("tcp://127.0.0.1:*"), BEAT_S)
    told.wait(lambda: told.ups)

    gevent.sleep(10 * BEAT_S)
    connection.send(b"still there")

    told.wait(lambda: told.got)
    assert not told.downs


def test_what_a_busy_process_has_not_looked_at_yet_is_heard_all_the_same(told, listening):
    connection = told.connect(listening.address, DEADLINE_S)
    with listening.welcome() as wire:
        told.wait(lambda: told.ups)
        connection._link.pause()
        wire.send(message(b"", b"x"))

        for _ in range(5):
            connection._beat()

        assert connection.has_unread and not told.downs
        connection._link.resume()
        told.wait(lambda: told.got)


@pytest.mark.parametrize("way", ["closes", "resets", "talks nonsense"])
def test_a_server_that_goes_is_told_of_once_and_not_tried_again(told, listening, way):
    connection = told.connect(listening.address)
    with listening.welcome() as wire:
        told.wait(lambda: told.ups)
        wire.send(message(b"", b"last"))
        told.wait(lambda: told.got)
        if way == "resets":
            wire.reset()
        elif way == "talks nonsense":
            wire.send(b"\xff\xff")
    told.wait(lambda: told.downs)
    turn()

    assert (told.ups, len(told.downs), told.retries) == (1, 1, 0)
    assert not connection.up and not connection.has_unread


def test_sending_on_a_connection_that_has_just_broken_is_no_error_and_word_of_it_follows(told, listening):
    connection = told.connect(listening.address)
    with listening.welcome() as wire:
        told.wait(lambda: told.ups)
        wire.reset()
        poll_until_reset(connection)

    for _ in range(3):
        connection.send(b"x")

    assert connection.up
    told.wait(lambda: told.downs)


def poll_until_reset(connection):
    """Wait, without letting the hub look, until the system knows of the reset."""
    while connection._link._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1:      # established
        pass


def test_a_bug_in_the_receiver_is_word_that_it_is_down(told, listening):
    told._receive = lambda *_: 1 / 0
    told.connect(listening.address)
    with listening.welcome() as wire:
        wire.send(message(b"", b"x"))

        told.wait(lambda: told.downs)

    assert told.downs == ["its drain has failed"]


# --- closing ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("when", ["at once", "while it connects", "while it shakes hands", "between tries", "up"])
def test_closed_at_any_time_it_leaves_nothing_behind_and_says_nothing_more(told, listening, when):
    def living():
        gc.collect()
        return (len(os.listdir("/proc/self/fd")),
                sum(isinstance(one, gevent.Greenlet) and not one.dead for one in gc.get_objects()))

    before = living()
    connection = told.connect(listening.address if when != "between tries" else "ipc:///no/such/path")
    accepted = None
    if when == "while it connects":
        gevent.idle()
    elif when == "between tries":
        told.wait(lambda: told.retries)
    elif when != "at once":
        accepted = listening.welcome() if when == "up" else listening.accept()
        told.wait(lambda: told.ups or when != "up")
    said = told.ups, told.downs, told.retries

    connection.close()
    connection.close()
    if accepted is not None:
        assert accepted.is_closed()
        accepted.sock.close()
    told.wait(lambda: living() <= before)

    assert (told.ups, told.downs, told.retries) == said


@pytest.mark.parametrize("when", ["up", "message", "down", "retry"])
def test_it_may_be_closed_from_within_what_it_tells(told, listening, when):
    def close(*_):
        connection.close()
        told.changed.set()

    setattr(told, {"up": "_up", "message": "_receive", "down": "_down", "retry": "_retry"}[when], close)
    connection = told.connect(listening.address)
    if when == "retry":
        listening.accept().sock.close()
    else:
        with listening.welcome() as wire:
            wire.send(message(b"", b"x") * 2)
            if when == "down":
                told.wait(lambda: told.got)
            else:
                assert wire.is_closed()

    told.wait(lambda: connection._closed)
    turn()
    assert not connection.up and connection._task.dead


# --- the client above it -----------------------------------------------------------------------------

def test_a_client_moves_on_from_a_server_that_never_shakes_hands(listening, monkeypatch):
    monkeypatch.setattr(connection_module, "_CONNECT_TIMEOUT_S", 0.1)
    server = FakeServer()
    with Client([listening.address, server.endpoint], timeout_s=DEADLINE_S) as client:
        assert client.about()["epoch"] == "log-1"
    server.stop()


def test_a_client_that_asks_on_a_connection_that_has_just_broken_hears_it_from_the_connection(server, client):
    client.about()
    sock = client._channels._connection._link._socket
    sock.shutdown(socket.SHUT_RDWR)

    assert client.about()["epoch"] == "log-1"       # asked again on the next connection


def test_a_client_of_a_host_that_there_is_not_says_that_it_has_no_connection():
    with Client("tcp://no-such-host.invalid:4242") as client:
        with pytest.raises(RequestTimeout, match="No connection to the server at tcp://no-such-host"):
            client.call("about", timeout_s=0.2)
