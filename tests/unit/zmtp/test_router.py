"""The router: whoever comes is served, whoever goes is told of, and nobody can stop the others."""

import errno
import os
import resource
import select
import socket
import threading
from contextlib import contextmanager, suppress
from time import monotonic

import gevent
import pytest
import zmq
from gevent.event import Event

from tests.processes import wait_until
from tests.raw_peer import RawPeer
from tests.unit.zmtp.speaking import DEADLINE_S, GREETING, Noting, Wire, hello, message
from zstreampub.zmtp import router as router_module
from zstreampub.zmtp.link import PeerGone
from zstreampub.zmtp.router import Router

MOST = 1 << 22
LARGE = bytes(1 << 20)


@pytest.fixture(autouse=True)
def deadline():
    with gevent.Timeout(DEADLINE_S):
        yield


class Serving(Noting):
    """A Router that notes what it is told, and sends back what it gets if told to."""

    def __init__(self, receive=None):
        super().__init__()
        self.got, self.left, self.emptied = [], [], []
        self.answers = False
        self.router = Router(receive or self._receive, self._note(self.left), self._note(self.emptied), MOST, (30, 10))
        self.endpoint = self.router.bind("tcp://127.0.0.1:0")

    def _note(self, notes):
        def note(peer):
            notes.append(peer)
            self.changed.set()
        return note

    def _receive(self, peer, blob):
        self.got.append((peer, bytes(blob)))
        if self.answers:
            self.router.send(peer, bytes(blob))
        self.changed.set()

    @property
    def blobs(self):
        return [blob for _, blob in self.got]

    def joined(self):
        """Return a peer by hand that has sent a message, and its name."""
        count = len(self.got)
        wire = Wire(self.endpoint)
        wire.send(hello() + message(b"", b"hello"))
        wire.receive_hello()
        self.wait(lambda: len(self.got) > count)
        return wire, self.got[-1][0]


@pytest.fixture
def serving():
    serving = Serving()
    yield serving
    serving.router.close()


@pytest.fixture
def context():
    """A context of libzmq, its sockets closed at the end."""
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def dealer(context, endpoint, kind=zmq.DEALER):
    one = context.socket(kind)
    one.connect(endpoint)
    return one


def received(sock):
    wait_until(lambda: sock.poll(0), "a message")
    return sock.recv_multipart()


# --- with libzmq ------------------------------------------------------------------------------

@pytest.mark.parametrize("place", ["tcp://127.0.0.1:0", "tcp://*:0", "ipc", f"ipc://@zstreampub-{os.getpid()}"])
def test_dealers_of_libzmq_are_served_wherever_it_is_bound(serving, context, place, tmp_path):
    endpoint = serving.router.bind(f"ipc://{tmp_path}/log.sock" if place == "ipc" else place)
    serving.answers = True
    peer = dealer(context, endpoint.replace("0.0.0.0", "127.0.0.1"))

    peer.send_multipart([b"", b"hello"])

    assert received(peer) == [b"", b"hello"]
    assert serving.router.endpoints == [serving.endpoint, endpoint]


def test_a_req_of_libzmq_asks_and_gets_its_answers(serving, context):
    serving.answers = True
    peer = dealer(context, serving.endpoint, zmq.REQ)

    for number in range(20):
        peer.send(b"%d" % number)
        assert received(peer) == [b"%d" % number]


def test_an_old_name_of_a_socket_is_no_matter(serving, context):
    serving.answers = True
    peers = [context.socket(zmq.DEALER) for _ in range(2)]
    for peer in peers:
        peer.setsockopt(zmq.IDENTITY, b"the same")
        peer.connect(serving.endpoint)
        peer.send_multipart([b"", b"hello"])

    assert [received(peer) for peer in peers] == [[b"", b"hello"]] * 2
    assert len({peer for peer, _ in serving.got}) == 2


def test_thousands_of_frames_arrive_in_order_both_ways(serving):
    serving.answers = True
    blobs = [b"%d" % number for number in range(5_000)]
    with RawPeer(serving.endpoint) as peer:
        for number in range(5_000):
            peer.event("ping", [number])
        answers = [peer.receive()[2][0] for _ in range(5_000)]

    assert answers == list(range(5_000))
    assert len(serving.got) == len(blobs)


def test_large_frames_go_both_ways(serving, context):
    serving.answers = True
    peer = dealer(context, serving.endpoint)
    blob = os.urandom(MOST)

    peer.send_multipart([b"", blob])

    assert received(peer)[1] == blob


def test_a_frame_of_more_than_the_most_bytes_ends_the_connection_of_whoever_sent_it(serving, context):
    with Wire(serving.endpoint) as wire:
        wire.send(hello() + b"\x01\x00\x02" + (MOST + 1).to_bytes(8, "big"))
        assert wire.is_closed()

    assert serving.got == [] and serving.router.malformed == 1


def test_pings_of_libzmq_keep_its_connection(serving, context):
    peer = context.socket(zmq.DEALER)
    peer.setsockopt(zmq.HEARTBEAT_IVL, 20)
    peer.setsockopt(zmq.HEARTBEAT_TIMEOUT, 200)
    ends = peer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    peer.connect(serving.endpoint)
    peer.send_multipart([b"", b"hello"])
    serving.wait(lambda: serving.got)

    gevent.sleep(0.6)

    assert not ends.poll(0) and not serving.left


def test_messages_of_another_shape_are_counted_also_when_their_sender_has_left(serving):
    wire, _ = serving.joined()
    wire.send(message(b"x") + message(b"", b"", b"y"))
    wire.send(message(b"", b"good"))
    serving.wait(lambda: serving.blobs[-1] == b"good")
    assert serving.router.malformed == 2

    wire.sock.close()
    serving.wait(lambda: serving.left)

    assert serving.router.malformed == 2


# --- who goes, and who does not read ------------------------------------------------------------

def test_whoever_leaves_is_told_of_once_and_cannot_be_sent_to(serving):
    (staying, other), (leaving, name) = serving.joined(), serving.joined()

    leaving.reset()
    serving.wait(lambda: serving.left)

    assert serving.left == [name]
    with pytest.raises(PeerGone):
        serving.router.send(name, b"x")
    assert serving.router.send(other, b"y")
    assert staying.receive_blob() == b"y"
    staying.sock.close()


def test_who_was_never_there_cannot_be_sent_to(serving):
    with pytest.raises(PeerGone):
        serving.router.send(b"nobody", b"x")


def test_a_peer_that_does_not_read_takes_no_more_until_he_has_read_all(serving):
    wire, name = serving.joined()
    sent = 0
    while serving.router.send(name, b"%07d" % sent + LARGE):
        sent += 1
    assert sent > 0 and not serving.router.send(name, b"x")

    blobs = [wire.receive_blob() for _ in range(sent)]
    serving.wait(lambda: serving.emptied)

    assert blobs == [b"%07d" % number + LARGE for number in range(sent)]
    assert serving.emptied == [name]
    assert serving.router.send(name, b"more")
    assert wire.receive_blob() == b"more"
    wire.sock.close()


def test_a_peer_that_does_not_read_stops_nobody_else(serving):
    wire, name = serving.joined()
    while serving.router.send(name, LARGE):
        pass
    serving.answers = True

    with RawPeer(serving.endpoint) as other:
        other.event("ping", [7])

        assert other.receive()[2] == [7]
    wire.sock.close()


def test_a_peer_that_is_full_and_leaves_is_told_of_and_not_called_empty(serving):
    wire, name = serving.joined()
    while serving.router.send(name, LARGE):
        pass

    wire.reset()
    serving.wait(lambda: serving.left)

    assert (serving.left, serving.emptied) == ([name], [])


def test_a_peer_may_be_sent_to_from_within_the_word_that_he_has_room(serving):
    wire, name = serving.joined()
    serving.router._links[name]._told = serving.router._links[name]._told._replace(
        emptied=lambda link: serving.router.send(name, b"at last"))
    while serving.router.send(name, LARGE):
        pass

    while (blob := wire.receive_blob()) == LARGE:
        pass

    assert blob == b"at last"
    wire.sock.close()


# --- strangers ----------------------------------------------------------------------------------

@pytest.mark.parametrize("said", [b"", GREETING[:30], GREETING])
def test_who_does_not_shake_hands_in_time_is_sent_away(monkeypatch, said):
    monkeypatch.setattr(router_module, "_HANDSHAKE_S", 0.05)
    monkeypatch.setattr(router_module, "_LOOK_S", 0.02)
    serving = Serving()
    member, _ = serving.joined()
    with Wire(serving.endpoint) as wire:
        wire.send(said)

        assert wire.is_closed()

    member.send(message(b"", b"still here"))
    serving.wait(lambda: serving.blobs[-1] == b"still here")
    assert not serving.router._strangers and len(serving.router._links) == 1
    serving.router.close()
    member.sock.close()


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", GREETING[:8] + b"\x01\x7f\x01\x05",
                                  b"\x01\x00", bytes(range(254, 0, -1)), hello(b"SUB"), GREETING + message(b"", b"x")])
def test_who_speaks_otherwise_is_cut_off_and_nothing_is_left_of_him(serving, said):
    with Wire(serving.endpoint) as wire:
        wire.send(said)
        assert wire.is_closed()

    serving.wait(lambda: not serving.router._links)
    assert not serving.router._strangers and serving.got == []


def test_a_thousand_who_come_and_go_leave_nothing_behind(serving):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        wires = [Wire(serving.endpoint) for _ in range(100)]
        for number, wire in enumerate(wires):
            wire.send(hello()[:number])
            wire.reset() if number % 2 else wire.sock.close()

    serving.wait(lambda: not serving.router._links)
    serving.answers = True
    wire, _ = serving.joined()
    assert wire.receive_blob() == b"hello"
    wire.sock.close()
    serving.wait(lambda: not serving.router._links)
    assert len(os.listdir("/proc/self/fd")) <= before


@contextmanager
def no_descriptors(serving):
    """Somebody connects, and this process has no descriptor for him; give his socket."""
    host, port = serving.endpoint.removeprefix("tcp://").split(":")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as sock:
        sock.settimeout(DEADLINE_S)
        os.close(lowest := os.dup(sock.fileno()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        try:
            sock.connect((host, int(port)))
            yield sock
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_without_descriptors_nobody_can_connect_until_there_are_some_again(serving, caplog):
    with no_descriptors(serving) as sock:
        serving.wait(lambda: "nobody can connect for now: Too many open files" in caplog.text)
        waiting = socket.socket(fileno=sock.detach())

    with waiting:
        waiting.sendall(hello() + message(b"", b"at last"))
        serving.wait(lambda: serving.blobs == [b"at last"])


def test_without_descriptors_it_rests(serving, caplog, monkeypatch):
    monkeypatch.setattr(router_module, "_REST_S", DEADLINE_S)
    with no_descriptors(serving):
        serving.wait(lambda: "nobody can connect" in caplog.text)

        assert not serving.router._listening[0][1].active


def test_closing_while_it_rests_leaves_nothing_that_starts_again(serving, caplog, monkeypatch):
    monkeypatch.setattr(router_module, "_REST_S", 0.02)
    _, watcher = serving.router._listening[0]
    with no_descriptors(serving):
        serving.wait(lambda: "nobody can connect" in caplog.text)
        serving.router.close()

    gevent.sleep(0.1)

    assert not watcher.active


# --- the owner ----------------------------------------------------------------------------------

def test_a_receiver_may_wait_while_others_come_and_send():
    go_on, waits = Event(), []

    def receive(peer, blob):
        waits.append(bytes(blob))
        go_on.wait()
        assert bytes(blob) == waits[-1]

    serving = Serving(receive)
    with RawPeer(serving.endpoint) as first, RawPeer(serving.endpoint) as second:
        first.send(b"first")
        serving.wait(lambda: waits)
        second.send(b"second")
        first.send(b"third")
        gevent.sleep(0.05)
        assert waits == [b"first"]

        go_on.set()
        serving.wait(lambda: len(waits) == 3)
    serving.router.close()

    assert sorted(waits) == [b"first", b"second", b"third"]


def test_a_bug_in_the_receiver_is_told_to_whoever_is_linked():
    serving, died = Serving(lambda *_: 1 / 0), []
    serving.router.link(died.append)
    with RawPeer(serving.endpoint) as peer:
        peer.send(b"hello")
        serving.wait(lambda: died)
    serving.router.close()

    assert isinstance(died[0].exception, ZeroDivisionError)


def test_it_may_be_closed_from_within_a_message_and_what_was_sent_arrives():
    ended = []

    def receive(peer, blob):
        closing.router.send(peer, LARGE)
        closing.router.close(linger_ms=10_000)
        ended.append(bytes(blob))
        closing.changed.set()

    closing = Serving(receive)
    with Wire(closing.endpoint) as wire:
        wire.send(hello() + message(b"", b"one") + message(b"", b"two"))
        wire.receive_hello()

        assert wire.receive_blob() == LARGE
        assert wire.is_closed()
    closing.wait(lambda: ended)
    assert ended == [b"one"] and not closing.left


# --- binding and closing ------------------------------------------------------------------------

def test_two_routers_cannot_have_one_port(serving):
    other = Router(print, print, print, MOST, (30, 10))

    with pytest.raises(OSError) as caught:
        other.bind(serving.endpoint)

    assert caught.value.errno == errno.EADDRINUSE
    assert other.endpoints == []
    other.close()


def test_the_path_of_another_router_is_neither_taken_nor_removed(serving, tmp_path):
    endpoint = serving.router.bind(f"ipc://{tmp_path}/log.sock")
    other = Router(print, print, print, MOST, (30, 10))

    with pytest.raises(OSError) as caught:
        other.bind(endpoint)
    other.close()

    assert caught.value.errno == errno.EADDRINUSE
    with Wire(endpoint) as wire:
        wire.send(hello() + message(b"", b"x"))
        serving.wait(lambda: serving.blobs == [b"x"])


def test_a_closed_router_leaves_no_path_no_port_and_no_connection(serving, tmp_path):
    endpoint = serving.router.bind(f"ipc://{tmp_path}/log.sock")
    wire, name = serving.joined()
    with Wire(endpoint) as stranger:
        serving.router.close()
        serving.router.close()

        assert wire.is_closed() and stranger.is_closed()
    assert os.listdir(tmp_path) == []
    with pytest.raises(ConnectionRefusedError):
        Wire(serving.endpoint)
    with pytest.raises(PeerGone):
        serving.router.send(name, b"x")
    assert not serving.left
    wire.sock.close()


def read_slowly(sock, found):
    """Read all there is in a thread, and put it into *found*."""
    sock.setblocking(True)
    got = bytearray()
    while part := sock.recv(1 << 16):
        got += part
    found.append(bytes(got))


def test_what_was_sent_before_closing_arrives_also_where_it_is_read_slowly(serving):
    wire, name = serving.joined()
    other, other_name = serving.joined()
    sent = 0
    while serving.router.send(name, LARGE):
        sent += 1
    serving.router.send(other_name, b"goodbye")
    found = []
    plain = socket.socket(fileno=wire.sock.detach())
    reading = threading.Thread(target=read_slowly, args=(plain, found))
    reading.start()

    serving.router.close(linger_ms=20_000)

    wait_until(lambda: found, "the end of what was sent")
    reading.join()
    assert found[0] == message(b"", LARGE) * sent
    assert other.receive_blob() == b"goodbye" and other.is_closed()
    plain.close()
    other.sock.close()


@pytest.mark.parametrize("linger_ms, waited", [(100, [None]), (0, [])])
def test_a_peer_that_reads_nothing_holds_the_end_up_for_as_long_as_was_said(serving, linger_ms, waited):
    wire, name = serving.joined()
    while serving.router.send(name, LARGE):
        pass
    turns = []
    gevent.get_hub().loop.run_callback(turns.append, None)

    serving.router.close(linger_ms)

    assert turns == waited and not serving.router._links
    wire.sock.close()


# --- forks ----------------------------------------------------------------------------------------

@contextmanager
def forked(what=lambda: None):
    """A child of a fork that does *what*, then lets its hub run until the end of the block."""
    reader, writer = os.pipe()
    alive, of_child = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        os.close(alive)
        _let_hub_run(what, reader)
    os.close(reader)
    os.close(of_child)
    try:
        yield
        os.set_blocking(alive, False)
        with pytest.raises(BlockingIOError):    # else the child has ended, and proves nothing
            os.read(alive, 1)
    finally:
        os.close(writer)
        os.close(alive)
        with suppress(ChildProcessError):   # gevent has collected it, where something has had it look for children
            os.waitpid(child, 0)


def _let_hub_run(what, reader):
    ends = monotonic() + DEADLINE_S
    try:
        what()
        while monotonic() < ends and not select.select([reader], [], [], 0)[0]:
            with suppress(BaseException):   # what is thrown into this greenlet was meant for that of the parent
                gevent.sleep(0.005)
    finally:
        os._exit(0)


def test_the_child_of_a_fork_takes_no_message_and_no_connection_away(serving, tmp_path):
    endpoint = serving.router.bind(f"ipc://{tmp_path}/log.sock")
    wire, _ = serving.joined()
    with forked():
        for number in range(100):
            with Wire(endpoint) as other:
                other.send(hello() + message(b"", b"other"))
                wire.send(message(b"", b"%d" % number))
                serving.wait(lambda both=number + 1: serving.blobs.count(b"other") == both)

    serving.wait(lambda: len(serving.got) == 1 + 200)
    wire.sock.close()


def test_the_child_of_a_fork_may_close_its_copy_and_keeps_no_connection_open(serving, tmp_path):
    endpoint = serving.router.bind(f"ipc://{tmp_path}/log.sock")
    wire, name = serving.joined()
    with forked(lambda: serving.router.close(linger_ms=1000)):
        with Wire(endpoint) as other:
            other.send(hello() + message(b"", b"other"))
            serving.wait(lambda: serving.blobs[-1] == b"other")
        serving.router.send(name, b"still here")
        assert wire.receive_blob() == b"still here"

        serving.router.close()

        assert wire.is_closed()
    wire.sock.close()
