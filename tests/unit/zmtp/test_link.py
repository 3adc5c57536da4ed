"""Links: what is received is handed out while it is good, what is sent arrives in order, and every end is told once."""

import _socket
import gc
import os
import socket
from collections import Counter

import gevent
import pytest
import zmq
from gevent.event import Event
from gevent.socket import socket as green_socket

from tests.unit.zmtp.speaking import DEADLINE_S, Noting, Wire, command, frame, hello, message
from zstreampub.zmtp.frames import Inbox
from zstreampub.zmtp.link import Drain, Link, PeerGone, Told

MOST = 1 << 24
PING = command(b"PING", b"\0\0why")
PONG = command(b"PONG", b"why")


@pytest.fixture(autouse=True)
def deadline():
    with gevent.Timeout(DEADLINE_S):
        yield


class Owner(Noting):
    """Owns links in one drain, and notes what it is told; ``receive`` may be replaced."""

    def __init__(self):
        super().__init__()
        self.ready, self.got, self.ended, self.emptied = [], [], [], []
        self.drain = Drain()
        self.links = []
        self.wires = []
        self.receive = lambda id, blob: None

    def pair(self, kind="ROUTER", family=socket.AF_UNIX, id=None, send_bytes=None):
        """Return a link and the plain socket at its other end, which has not said anything yet."""
        ours, theirs = connected() if family != socket.AF_UNIX else socket.socketpair()
        if send_bytes is not None:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
        told = Told(self._note(self.ready), self._receive, self._note(self.ended), self._note(self.emptied))
        link = Link(_socket.socket(fileno=ours.detach()), kind, told, self.drain, MOST, id)
        wire = Wire(sock=green_socket(fileno=theirs.detach()))
        self.links.append(link)
        self.wires.append(wire)
        return link, wire

    def joined(self, **options):
        """Return a link that has shaken hands, and its other end."""
        link, wire = self.pair(**options)
        wire.send(hello())
        wire.receive_hello()
        self.wait(lambda: link in self.ready)
        return link, wire

    def _note(self, notes):
        def note(link, why=None):
            notes.append(link if why is None else (link, why))
            self.changed.set()
        return note

    def _receive(self, id, blob):
        self.got.append(bytes(blob))
        self.receive(id, blob)
        self.changed.set()

    def close(self):
        for link in self.links:
            link.close()
        for wire in self.wires:
            wire.sock.close()
        self.drain.close()


def connected():
    """Return two TCP sockets that are connected to each other."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        return one, listening.accept()[0]


@pytest.fixture
def owner():
    owner = Owner()
    yield owner
    owner.close()


@pytest.fixture(params=[socket.AF_UNIX, socket.AF_INET], ids=["ipc", "tcp"])
def family(request):
    return request.param


def test_hands_are_shaken_and_messages_go_both_ways(owner, family):
    link, wire = owner.pair(family=family)
    assert not link.is_ready

    wire.send(hello() + message(b"", b"one") + message(b"", b"two"))
    owner.wait(lambda: len(owner.got) == 2)
    link.send(b"three")

    assert owner.ready == [link] and link.is_ready
    assert owner.got == [b"one", b"two"]
    wire.receive_hello()
    assert wire.receive_blob() == b"three"


def test_messages_of_another_shape_are_counted(owner):
    link, wire = owner.joined()

    wire.send(message(b"x") + message(b"", b"y", b"z") + message(b"", b"good"))
    owner.wait(lambda: owner.got)

    assert (owner.got, link.malformed) == ([b"good"], 2)


@pytest.mark.parametrize("size", [(16 << 10) - 1, 16 << 10, (16 << 10) + 1, 5_000_000])
def test_blobs_of_every_size_are_sent_whole(owner, family, size):
    link, wire = owner.joined(family=family)
    blob = os.urandom(size)

    link.send(blob)

    assert wire.receive_blob() == blob


def test_large_frames_are_received_whole_while_others_have_their_turn(owner, family):
    _, large = owner.joined(family=family)
    _, small = owner.joined(family=family)
    blob = os.urandom(MOST)
    sending = gevent.spawn(large.send, message(b"", blob))
    gevent.idle()

    small.send(message(b"", b"small"))
    owner.wait(lambda: len(owner.got) == 2)

    assert sorted(owner.got, key=len) == [b"small", blob]
    sending.get()


def test_what_a_peer_does_not_read_waits_and_then_arrives_in_order(owner, family):
    link, wire = owner.joined(family=family)
    blobs = [b"%d " % number * (1 + number % 7 * 3000) for number in range(400)]
    assert not link.is_full

    for blob in blobs:
        link.send(blob)

    assert link.is_full and not owner.emptied
    assert [wire.receive_blob() for _ in blobs] == blobs
    owner.wait(lambda: owner.emptied == [link])
    assert not link.is_full
    link.send(b"more")
    assert wire.receive_blob() == b"more"


def test_a_peer_that_asks_for_life_is_answered(owner):
    _, wire = owner.joined()

    wire.send(PING)

    assert wire.receive(len(PONG)) == PONG


def test_a_peer_that_asks_and_does_not_read_fills_no_memory(owner):
    link, wire = owner.joined(send_bytes=4096)
    link.send(bytes(1 << 20))
    waiting = len(link._unsent)

    for _ in range(100):
        wire.send(PING * 1000)
    wire.send(message(b"", b"done"))
    owner.wait(lambda: owner.got)

    assert len(link._unsent) <= waiting
    assert wire.receive_blob() == bytes(1 << 20)


def test_a_ping_of_ours_is_answered_by_libzmq(owner):
    context = zmq.Context()
    with context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        link = zmq_link(owner, port)
        owner.wait(lambda: owner.ready)
        link.heard = False

        link.ping()

        owner.wait(lambda: link.heard)
    context.term()


def zmq_link(owner, port):
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    sock.connect(("127.0.0.1", port))
    told = Told(owner._note(owner.ready), owner._receive, owner._note(owner.ended), owner._note(owner.emptied))
    link = Link(sock, "DEALER", told, owner.drain, MOST)
    owner.links.append(link)
    return link


def test_as_a_dealer_it_talks_to_a_router_of_libzmq(owner):
    context = zmq.Context()
    with context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.SNDHWM, 0)    # else it drops what we have not read yet
        link = zmq_link(owner, router.bind_to_random_port("tcp://127.0.0.1"))
        blobs = [b"%d" % number for number in range(3_000)] + [os.urandom(3_000_000)]

        for blob in blobs:
            link.send(blob)
        for blob in blobs:
            parts = received(router)
            assert parts[1:] == [b"", blob]
            router.send_multipart([parts[0], b"", blob])
        owner.wait(lambda: len(owner.got) == len(blobs))

        assert owner.got == blobs
    context.term()


def received(router):
    while not router.poll(0):
        gevent.sleep(0.001)
    return router.recv_multipart()


# --- how it ends --------------------------------------------------------------------------------

@pytest.mark.parametrize("heard, why", [
    (b"GET / HTTP/1.1\r\n\r\n", "does not speak ZMTP"), (hello(b"PUB"), "PUB"),
    (hello() + b"\x02\xff" + bytes(7), "announced"), (bytes(1000), "ZMTP")])
def test_a_peer_that_breaks_the_protocol_is_cut_off(owner, family, heard, why):
    link, wire = owner.pair(family=family)

    wire.send(heard)
    owner.wait(lambda: owner.ended)

    assert owner.ended[0][0] is link and why in owner.ended[0][1]
    assert wire.is_closed()
    with pytest.raises(PeerGone):
        link.send(b"x")


@pytest.mark.parametrize("heard", [b"", hello()[:20], hello(), hello() + frame(b"", more=True) + b"\x00\x10half"])
def test_a_peer_that_goes_at_any_time_is_told_of_once(owner, family, heard):
    link, wire = owner.pair(family=family)
    wire.send(heard)

    wire.sock.close()
    owner.wait(lambda: owner.ended)
    gevent.idle()

    assert [ended for ended, _ in owner.ended] == [link]
    assert owner.got == []


def test_a_peer_that_closes_only_his_side_has_left_once_all_he_sent_is_handed_out(owner, family):
    _, wire = owner.joined(family=family)
    wire.send(message(b"", b"last"))

    wire.sock.shutdown(socket.SHUT_WR)
    owner.wait(lambda: owner.ended)

    assert owner.got == [b"last"]
    assert wire.is_closed()


def test_a_reset_is_an_end(owner):
    link, wire = owner.joined(family=socket.AF_INET)

    wire.reset()
    owner.wait(lambda: owner.ended)

    assert [ended for ended, _ in owner.ended] == [link]


def test_a_peer_that_vanishes_while_we_send_is_found_out_by_sending_and_by_the_drain(owner, family):
    link, wire = owner.joined(family=family, send_bytes=4096)
    link.send(bytes(1 << 20))

    wire.sock.close()
    owner.wait(lambda: owner.ended)

    assert not link.is_full and not owner.emptied
    assert len(owner.ended) == 1
    with pytest.raises(PeerGone):
        link.send(b"x")


def test_what_was_received_before_sending_failed_is_handed_out(owner):
    link, wire = owner.joined()
    wire.send(message(b"", b"goodbye"))
    wire.sock.close()

    with pytest.raises(PeerGone):
        link.send(b"too late")

    assert not owner.ended
    owner.wait(lambda: owner.ended)
    assert owner.got == [b"goodbye"]


def test_closing_tells_the_owner_nothing_and_may_be_repeated(owner, family):
    link, wire = owner.joined(family=family)

    link.close()
    link.close()
    link.ping()

    assert wire.is_closed()
    assert not owner.ended and not link.has_unread()
    with pytest.raises(PeerGone):
        link.send(b"x")


def test_a_closed_link_leaves_no_descriptor_behind(owner):
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(100):
        link, wire = owner.joined()
        link.close()
        wire.sock.close()

    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("who", ["we", "the peer"])
def test_what_has_come_of_a_large_frame_is_freed_with_the_end_and_not_when_circles_are_looked_for(owner, who):
    def inboxes():
        return sum(isinstance(one, Inbox) for one in gc.get_objects())

    gc.collect()
    before = inboxes()
    gc.disable()
    try:
        link, wire = owner.joined()
        wire.send(b"\x01\x00\x02" + (1 << 20).to_bytes(8, "big") + b"x")
        if who == "we":
            link.close()
        else:
            wire.sock.close()
            owner.wait(lambda: owner.ended)

        assert inboxes() == before
    finally:
        gc.enable()


def test_the_end_is_told_the_peer_once_all_is_sent(owner, family):
    link, wire = owner.joined(family=family, send_bytes=4096)
    link.send(bytes(1 << 20))
    assert not link.end()

    blob = wire.receive_blob()
    owner.wait(link.end)

    assert blob == bytes(1 << 20)
    assert wire.sock.recv(1) == b""


def test_what_was_received_and_not_handed_out_can_be_asked_for(owner):
    link, wire = owner.joined()
    assert not link.has_unread()

    link.pause()
    wire.send(message(b"", b"x"))

    assert link.has_unread()
    link.resume()
    owner.wait(lambda: owner.got)
    assert not link.has_unread()


# --- owners that do things in the middle of a message -------------------------------------------

def test_a_receiver_may_wait_while_others_have_more_and_his_view_stays_good(owner):
    links = [owner.joined(id=number) for number in range(5)]
    views, go_on = [], Event()

    def receive(id, blob):
        before = bytes(blob)
        if not views:
            views.append(blob)
            go_on.wait()
        views.append((before, bytes(blob)))

    owner.receive = receive
    links[0][1].send(message(b"", b"slow") + message(b"", b"next"))
    owner.wait(lambda: views)
    for number, (_, wire) in enumerate(links):
        wire.send(message(b"", b"other %d" % number) * 100)
    for _ in range(5):
        gevent.idle()
    assert owner.got == [b"slow"]

    go_on.set()
    owner.wait(lambda: len(owner.got) == 502)

    assert all(before == after for before, after in views[1:])
    assert Counter(owner.got) == {b"slow": 1, b"next": 1, **{b"other %d" % number: 100 for number in range(5)}}


def test_a_waiting_receiver_costs_no_processor_time_however_much_others_send(owner):
    (_, first), (_, second) = owner.joined(), owner.joined()
    go_on, waits = Event(), []

    def receive(id, blob):
        waits.append(id)
        go_on.wait()

    owner.receive = receive
    first.send(message(b"", b"x"))
    owner.wait(lambda: waits)
    turns = []
    prepare = gevent.get_hub().loop.prepare()
    prepare.start(turns.append, None)

    second.send(message(b"", b"y"))
    gevent.sleep(0.1)
    prepare.stop()
    prepare.close()
    go_on.set()
    owner.wait(lambda: len(owner.got) == 2)

    assert len(turns) < 50


def test_a_bug_in_the_receiver_ends_the_drain_of_which_the_owner_hears(owner):
    (_, wire), (other, other_wire) = owner.joined(), owner.joined()
    died = []
    owner.drain.link(died.append)
    owner.receive = lambda *_: 1 / 0

    wire.send(message(b"", b"x"))
    owner.wait(lambda: died)
    other_wire.send(message(b"", b"y"))
    gevent.idle()

    assert isinstance(died[0].exception, ZeroDivisionError)
    assert owner.got == [b"x"]
    assert other.has_unread()


def test_a_link_may_be_closed_from_within_its_own_message(owner):
    link, wire = owner.joined()
    owner.receive = lambda *_: link.close()

    wire.send(message(b"", b"first") + message(b"", b"second"))
    owner.wait(lambda: owner.got)

    assert wire.is_closed()
    assert owner.got == [b"first"] and not owner.ended


def test_another_link_may_be_closed_from_within_a_message(owner):
    (_, wire), (other, other_wire) = owner.joined(), owner.joined()
    owner.receive = lambda *_: other.close()

    wire.send(message(b"", b"x"))
    other_wire.send(message(b"", b"y"))
    owner.wait(lambda: owner.got)

    assert other_wire.is_closed()
    wire.send(message(b"", b"z"))
    owner.wait(lambda: owner.got[-1] == b"z")


def test_a_link_may_be_closed_when_it_is_ready(owner):
    link, wire = owner.pair()
    link._told = link._told._replace(ready=Link.close)

    wire.send(hello() + message(b"", b"x"))

    assert wire.is_closed()
    assert owner.got == []


def test_a_link_may_be_closed_when_it_is_emptied(owner):
    link, wire = owner.joined()
    link._told = link._told._replace(emptied=Link.close)

    link.send(bytes(1 << 20))

    assert wire.receive_blob() == bytes(1 << 20)
    assert wire.is_closed()


def test_the_drain_may_be_closed_from_within_a_message_and_whoever_does_it_goes_on(owner):
    link, wire = owner.joined()
    waited = []

    def receive(*_):
        owner.drain.close()
        link.close()
        gevent.sleep(0.001)
        waited.append(True)
        owner.changed.set()

    died = []
    owner.drain.link(died.append)
    owner.receive = receive

    wire.send(message(b"", b"x") * 2)
    owner.wait(lambda: waited and died)

    assert owner.got == [b"x"]
    assert died[0].successful()


def test_a_closed_drain_reads_nothing_more(owner):
    _, wire = owner.joined()

    owner.drain.close()
    wire.send(message(b"", b"x"))
    for _ in range(5):
        gevent.idle()

    assert owner.got == []


def test_in_the_child_of_a_fork_it_is_let_go_and_the_parent_goes_on(owner, family):
    link, wire = owner.joined(family=family)

    child = os.fork()
    if not child:
        link.abandon()
        link.close()
        gevent.sleep(0.01)
        try:
            link.send(b"from the child")
        except PeerGone:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    link.send(b"from the parent")
    assert wire.receive_blob() == b"from the parent"
    wire.send(message(b"", b"x"))
    owner.wait(lambda: owner.got)
