"""``zstreampub bridge`` between programs that speak plain ZeroMQ and a server, as processes."""

import signal

import gevent
import pytest
import zmq

from tests.integration.commands import Command, Serve
from tests.processes import wait_until
from zstreampub import Client, FifoStore


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


def started(*args, address):
    """Return a bridge that is at work."""
    bridge = Command("bridge", *args, address=address)
    bridge.line("err", "ctrl-C ends")
    return bridge


def read(client, pattern, count):
    with client.subscribe(pattern, start="earliest") as subscription:
        return [(message.topic, message.payload) for message in (subscription.get(30) for _ in range(count))]


@pytest.mark.parametrize("spool", [False, True])
def test_a_pull_socket_is_published(spool, server, client, plain, tmp_path):
    push, address = plain(zmq.PUSH)
    topic = f"pulled.{spool}"
    options = ["--spool", tmp_path / "spool"] if spool else []

    with started("--from", f"PULL@{address}", "--topic", topic, *options, address=server.address) as bridge:
        push.send(b"one")
        push.send_multipart([b"two", b"frames"])
        assert read(client, topic, 2) == [(topic, b"one"), (topic, [b"two", b"frames"])]
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


@pytest.mark.parametrize("spool", [False, True])
def test_a_message_that_the_server_refuses_is_told_and_the_others_go_on(spool, server, client, plain, tmp_path):
    push, address = plain(zmq.PUSH)
    options = ["--spool", tmp_path / "spool"] if spool else []
    topic = f"refused.{spool}"

    with started("--from", f"PULL@{address}", "--topic", topic, *options, address=server.address) as bridge:
        for payload in (b"1", bytes(2 << 20), b"3"):
            push.send(payload)
        assert read(client, topic, 2) == [(topic, b"1"), (topic, b"3")]
        assert "at most" in bridge.line("err", "refused")


def test_what_comes_while_the_server_is_away_is_spooled_and_sent_on_later(plain, tmp_path):
    push, address = plain(zmq.PUSH)
    with Serve("--store", f"lmdb:{tmp_path / 'log'}") as server:
        pass
    options = ["--from", f"PULL@{address}", "--topic", "late", "--spool", tmp_path / "spool"]

    with started(*options, "--report-s", "0.05", address=server.address) as bridge:
        for number in range(50):
            push.send(b"%d" % number)
        bridge.line("err", "50 received, 0 sent on, 50 wait")
        bridge.signal(signal.SIGINT)
        assert bridge.wait() == 130
    with FifoStore(tmp_path / "spool") as store:
        assert len(store) == 50
    with Serve("--store", f"lmdb:{tmp_path / 'log'}", bind=server.address) as server, \
            started(*options, address=server.address), Client(server.address) as client:
        assert read(client, "late", 50) == [("late", b"%d" % number) for number in range(50)]


def test_without_a_spool_it_stops_receiving_and_says_what_may_be_lost(plain, tmp_path):
    push, address = plain(zmq.PUSH)
    push.sndhwm = push.sndtimeo = 1
    with Serve("--store", f"lmdb:{tmp_path / 'log'}") as server:
        pass

    with started("--from", f"PULL@{address}", "--topic", "t", "--hwm", "1", "--report-s", "0.05",
                 address=server.address) as bridge:
        bridge.line("err", "no connection to .* yet, trying on")
        payload, sent = bytes(10_000), 0
        while True:
            try:
                push.send(payload)
                sent += 1
            except zmq.Again:
                if sent > 1700:
                    break
                gevent.sleep(0.01)
        bridge.line("err", "1,677 received, 0 sent on, 1,677 wait")     # of 10 kB: 16 MiB
        bridge.signal(signal.SIGINT)
        assert bridge.wait() == 130
        assert "they may be lost. --spool keeps them" in " ".join(bridge.rest("err"))


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
