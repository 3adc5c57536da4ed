"""The transport: everything that arrives is handed out, everything that is sent arrives, whatever the peers do."""

import gevent
import pytest
import zmq
from gevent.event import Event

from tests.raw_peer import RawPeer
from zstreampub.transport import PeerGone, Transport


@pytest.fixture(autouse=True)
def deadline():
    with gevent.Timeout(30):
        yield


class Echo:
    """A ROUTER that counts what it gets, and sends it back if told to."""

    def __init__(self, context):
        socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.SNDHWM, 10)
        socket.bind("tcp://127.0.0.1:0")
        self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.got, self.peers, self.wanted, self.enough = [], [], 0, Event()
        self.answers = False
        self.transport = Transport(socket, self._receive)

    def _receive(self, peer, blob):
        self.got.append(bytes(blob))
        self.peers.append(peer)
        if self.answers:
            self.transport.send(peer, bytes(blob))
        if len(self.got) >= self.wanted:
            self.enough.set()

    def wait_for(self, count):
        self.wanted = count
        if len(self.got) < count:
            self.enough.clear()
            self.enough.wait()


@pytest.fixture
def echo():
    context = zmq.Context()
    echo = Echo(context)
    yield echo
    echo.transport.close()
    gevent.get_hub().threadpool.apply(context.term)


def test_everything_that_is_sent_at_once_is_received_in_order(echo):
    blobs = [b"%d" % number for number in range(5_000)]
    with RawPeer(echo.endpoint) as peer:
        for blob in blobs:
            peer.send(blob)

        echo.wait_for(5_000)

    assert echo.got == blobs


def test_sending_from_within_receiving_stalls_nothing(echo):
    echo.answers = True
    with RawPeer(echo.endpoint) as peer:
        for number in range(2_000):
            peer.event("ping", [number])
        first = peer.receive()[2]
        echo.wait_for(2_000)

    assert first == [0]
    assert len(echo.got) == 2_000


def test_large_frames_come_whole(echo):
    with RawPeer(echo.endpoint) as peer:
        peer.send(b"x" * 5_000_000)
        echo.wait_for(1)

    assert echo.got == [b"x" * 5_000_000]


def test_messages_of_another_shape_are_counted_and_dropped(echo):
    with RawPeer(echo.endpoint) as peer:
        for parts in ((b"",), (b"x",), (b"x", b"y"), (b"", b"x", b"y"), (b"",) * 10):
            peer.send_parts(*parts)
        peer.send(b"good")
        echo.wait_for(1)

    assert (echo.got, echo.transport.malformed) == ([b"good"], 5)


def test_a_full_pipe_takes_no_more_and_loses_nothing(echo):
    with RawPeer(echo.endpoint) as peer:
        peer.send(b"hello")
        echo.wait_for(1)
        sent = 0
        while echo.transport.send(echo.peers[0], b"\x93\x81\xa1a\x01\xa1b" + b"\xc6\x00\x01\x00\x00" + bytes(65_536)):
            sent += 1

        received = [peer.receive()[2] for _ in range(sent)]

    assert received == [bytes(65_536)] * sent


def test_a_peer_that_has_left_is_told_of(echo):
    with RawPeer(echo.endpoint) as peer:
        peer.send(b"hello")
        echo.wait_for(1)

    with pytest.raises(PeerGone):
        while True:
            echo.transport.send(echo.peers[0], b"")
            gevent.idle()


def test_it_tells_that_somebody_has_left_each_time(echo):
    left = Event()
    echo.transport.watch_leaving(left.set)
    with RawPeer(echo.endpoint) as staying:
        staying.event("hello", [])
        echo.wait_for(1)

        for number in range(2, 5):
            with RawPeer(echo.endpoint) as leaving:
                leaving.send(b"hello")
                echo.wait_for(number)
                assert not left.is_set()
            assert left.wait(10)
            left.clear()

        echo.transport.send(echo.peers[0], echo.got[0])
        assert staying.receive()[1] == "hello"


def test_a_bug_in_the_receiver_is_told_to_whoever_is_linked(echo):
    died = Event()
    echo.transport.link(lambda _: died.set())
    echo.transport._receive = lambda *_: 1 / 0
    with RawPeer(echo.endpoint) as peer:
        peer.send(b"hello")

        assert died.wait(10)
