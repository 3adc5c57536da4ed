"""``zstreampub bridge`` between programs that speak plain ZeroMQ and a server, as processes."""

import re
import signal
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import zmq

from tests.integration.commands import Command, Serve
from tests.processes import wait_until
from zstreampub import Client
from zstreampub.client.outbox.left import look
from zstreampub.errors import MessageTooLarge


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Serve("--store", f"lmdb:{tmp_path_factory.mktemp('log')}") as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.address) as client:
        yield client


@pytest.fixture
def plain():
    """Sockets of a program that speaks plain ZeroMQ: ``plain(kind)`` gives a bound one and its address."""
    context = zmq.Context()

    def bound(kind):
        socket = context.socket(kind)
        return socket, f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"

    yield bound
    context.destroy(linger=0)


@pytest.fixture
def away(tmp_path):
    """A server that is away: its ``address``, and ``back()`` has it serve there."""
    store = "--store", f"lmdb:{tmp_path / 'log'}"
    with Serve(*store) as server:
        pass
    return SimpleNamespace(address=server.address, back=partial(Serve, *store, bind=server.address))


def started(*args, address):
    """Return a bridge that is at work."""
    bridge = Command("bridge", *args, address=address)
    bridge.line("err", "ctrl-C ends")
    return bridge


@contextmanager
def full(plain, away, spool):
    """A bridge without a server whose spool is full: it was sent 300 messages, which are more."""
    push, address = plain(zmq.PUSH)
    with started("--from", f"PULL@{address}", "--topic", "t", "--spool", spool, "--spool-bytes", "100k",
                 address=away.address) as bridge:
        for number in range(300):
            push.send(b"%1000d" % number)
        bridge.line("err", "nothing more is received until there is room")
        yield bridge


def read(client, pattern, count):
    with client.subscribe(pattern, start="earliest") as subscription:
        return [(message.topic, message.payload) for message in (subscription.get(30) for _ in range(count))]


@pytest.mark.parametrize("spool", [False, True])
def test_a_pull_socket_is_published(spool, server, client, plain, tmp_path):
    push, address = plain(zmq.PUSH)
    topic = f"pulled.{spool}"
    options = ["--spool", tmp_path / "spool"] if spool else []

    with started("--from", f"PULL@{address}", "--topic", topic, *options, "--report-s", "0.05",
                 address=server.address) as bridge:
        push.send(b"one")
        push.send_multipart([b"two", b"frames"])
        assert read(client, topic, 2) == [(topic, b"one"), (topic, [b"two", b"frames"])]
        bridge.line("err", "2 received, 2 sent on$")
        bridge.signal(signal.SIGTERM)
        assert bridge.wait() == 143
        assert "2 received, 2 sent on" in bridge.rest("err")[-1]


def test_a_sub_socket_is_published_below_its_topic_frame(server, client, plain):
    pub, address = plain(zmq.PUB)

    options = ["--topic", "feed", "--topic-frame", "--subscribe", "prices", "--subscribe", "a b"]

    with started("--from", f"SUB@{address}", *options, address=server.address):
        wait_until(lambda: pub.send_multipart([b"prices.eur", b"1"]) or client.last("feed.prices.eur"), "the first")
        for frames in ([b"other", b"2"], [b"a b", b"3"], [b"prices.usd", b"4", b"5"], [b"prices.end"]):
            pub.send_multipart(frames)
        wait_until(lambda: client.last("feed.prices.end"), "the end")

    others = [item for item in read(client, "feed.>", _count(client, "feed.>")) if item[0] != "feed.prices.eur"]
    assert others == [("feed.a%20b", b"3"), ("feed.prices.usd", [b"4", b"5"]), ("feed.prices.end", b"")]


def _count(client, pattern):
    return sum(one["messages"] for one in client.topics(pattern))


def test_a_bridge_that_listens(server, client, plain):
    free, address = plain(zmq.PULL)
    free.close()
    sender = free.context.socket(zmq.PAIR)

    with started("--from", f"PAIR@bind:{address}", "--topic", "listening", address=server.address):
        sender.connect(address)
        sender.send(b"1")
        assert read(client, "listening", 1) == [("listening", b"1")]


def test_an_address_that_is_taken_ends_it(server, plain):
    _, address = plain(zmq.PULL)

    with Command("bridge", "--from", f"PULL@bind:{address}", "--topic", "t", address=server.address) as bridge:
        assert bridge.wait() == 1
        assert f"cannot listen on {address}" in " ".join(bridge.rest("err"))


def test_a_message_that_the_server_refuses_is_told_and_the_others_go_on(server, client, plain):
    push, address = plain(zmq.PUSH)

    with started("--from", f"PULL@{address}", "--topic", "refused", address=server.address) as bridge:
        for payload in (b"1", bytes(2 << 20), b"3"):
            push.send(payload)
        assert read(client, "refused", 2) == [("refused", b"1"), ("refused", b"3")]
        assert "at most" in bridge.line("err", "refused")


@pytest.mark.parametrize("is_there", [True, False])
def test_what_is_refused_of_a_spool_is_told_and_kept_with_the_reason(is_there, plain, tmp_path):
    push, address = plain(zmq.PUSH)
    spool, log = tmp_path / "spool", f"lmdb:{tmp_path / 'log'}"
    payloads = [b"1", b"too large" * 300_000, b"3"]
    server = Serve("--store", log)
    if not is_there:        # nobody knows yet what it takes
        server.__exit__()

    with started("--from", f"PULL@{address}", "--topic", "t", "--spool", spool, "--report-s", "0.05",
                 address=server.address) as bridge:
        for payload in payloads:
            push.send(payload)
        if not is_there:
            bridge.line("err", "3 received, 0 sent on, 3 wait")
            server = Serve("--store", log, bind=server.address)
        with server, Client(server.address) as client:
            assert read(client, "t", 2) == [("t", b"1"), ("t", b"3")]
            assert "at most" in bridge.line("err", "refused, and kept in")
            bridge.line("err", "3 received, 2 sent on, 1 refused")
            bridge.signal(signal.SIGTERM)
            assert bridge.wait() == 143
        assert f"1 were refused: 'zstreampub outbox {spool} --refused'" in " ".join(bridge.rest("err"))

    [refused] = look(spool).refused
    assert refused.messages[0].payload == payloads[1] and isinstance(refused.error, MessageTooLarge)


def test_what_comes_while_the_server_is_away_is_spooled_and_sent_on_later(plain, away, tmp_path):
    push, address = plain(zmq.PUSH)
    options = ["--from", f"PULL@{address}", "--topic", "late", "--spool", tmp_path / "spool", "--report-s", "0.05"]

    with started(*options, address=away.address) as bridge:
        for number in range(50):
            push.send(b"%d" % number)
        bridge.line("err", "50 received, 0 sent on, 50 wait")
        bridge.signal(signal.SIGINT)
        assert bridge.wait() == 130
    assert look(tmp_path / "spool").messages == 50
    with away.back(), Command("bridge", *options, address=away.address) as bridge, Client(away.address) as client:
        bridge.line("err", "50 messages of an earlier run are in")
        bridge.line("err", "0 received, 50 sent on$")
        assert read(client, "late", 50) == [("late", b"%d" % number) for number in range(50)]


def test_a_full_spool_is_waited_for_and_nothing_is_lost(plain, away, tmp_path):
    with full(plain, away, tmp_path / "spool"), away.back(), Client(away.address) as client:
        assert read(client, "t", 300) == [("t", b"%1000d" % number) for number in range(300)]


def test_at_its_end_it_says_what_had_no_room_in_a_full_spool(plain, away, tmp_path):
    with full(plain, away, tmp_path / "spool") as bridge:
        bridge.signal(signal.SIGTERM)
        assert bridge.wait() == 143
        received, lost = re.search(r"(\d+) received, .* (\d+) messages were received, and are not in",
                                   " ".join(bridge.rest("err"))).groups()

    kept = look(tmp_path / "spool").messages
    assert 0 < kept < 300 and kept + int(lost) == int(received)


def test_without_a_spool_it_stops_receiving_and_says_what_may_be_lost(plain, away, tmp_path):
    push, address = plain(zmq.PUSH)
    push.sndhwm = 1
    with started("--from", f"PULL@{address}", "--topic", "t", "--hwm", "1", "--report-s", "0.05",
                 address=away.address) as bridge:
        bridge.line("err", "no connection to .* yet, trying on")
        while push.poll(1000, zmq.POLLOUT):
            push.send(bytes(10_000))
        found = bridge.line("err", "received, 0 sent on, .* wait")
        received, waiting = re.search(r"(\d+) received, 0 sent on, (\d+) wait", found).groups()
        bridge.signal(signal.SIGINT)
        assert bridge.wait() == 130
        assert f"{received} messages were received, and the server has not said" in " ".join(bridge.rest("err"))

    assert received == waiting and int(received) <= 27      # of 10 kB: 256 KiB


def test_the_reverse_sends_topic_and_payload_and_goes_on_where_it_was(server, client, plain, tmp_path):
    pull, address = plain(zmq.PULL)
    client.publish("out.a", "text")
    client.publish("out.b", {"n": 1})
    options = ["--to", f"PUSH@{address}", "--topic", "out.>", "--start", "earliest", "--state", tmp_path / "state"]

    with started(*options, address=server.address) as bridge:
        got = [receive(pull) for _ in range(2)]
        bridge.signal(signal.SIGTERM)
        assert bridge.wait() == 143
    client.publish("out.c", [b"two", b"frames"])
    with started(*options, "--strip", "out", address=server.address):
        got.append(receive(pull))

    assert got == [[b"out.a", b"text"], [b"out.b", b'{"n": 1}'], [b"c", b"two", b"frames"]]


def test_the_reverse_is_a_member_of_a_consumer(server, client, plain):
    pull, address = plain(zmq.PULL)
    client.create_consumer("bridge", "member.>")
    client.publish_many("member.a", [b"1", b"2"])

    with started("--to", f"PUSH@{address}", "--consumer", "bridge", "--no-topic-frame", address=server.address):
        assert [receive(pull) for _ in range(2)] == [[b"1"], [b"2"]]
        wait_until(lambda: client.consumer("bridge")["acked"] == 2, "two acknowledgements")


def receive(socket):
    wait_until(lambda: socket.poll(0), "a message")
    return socket.recv_multipart()


def test_from_zeromq_to_zeromq_every_frame_is_the_same(server, plain):
    push, source = plain(zmq.PUSH)
    pull, target = plain(zmq.PULL)
    sent = [[b"a b", b"1"], [b"", b"2", b"3"], [b"\xff..", b""], [b"x" * 300, b"4"]]

    with started("--to", f"PUSH@{target}", "--topic", "through.>", "--strip", "through", address=server.address):
        with started("--from", f"PULL@{source}", "--topic", "through", "--topic-frame", address=server.address):
            for frames in sent:
                push.send_multipart(frames)
            got = [receive(pull) for _ in sent]

    assert got == [*sent[:3], [b"too-long", *sent[3]]]      # but one that is too long for a topic
