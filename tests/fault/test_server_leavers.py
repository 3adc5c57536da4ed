"""Clients that leave without a word: cleaned up within about two heartbeats, and nothing stays behind."""

import json
from contextlib import contextmanager

import gevent
import pytest
import zerorpc

from tests.processes import Child, ServerProcess, client, messages, wait_until
from tests.raw_peer import RawPeer
from tests.serving import Watched

BEAT_S = 0.5
SOON_S = 10         # a deadline, many times what it takes


class Ticking(Watched):
    """A service with a stream of its own that never ends."""

    @zerorpc.stream
    def ticks(self):
        while True:
            yield "tick"
            gevent.sleep(0.001)

    @zerorpc.stream
    def silence(self):
        gevent.sleep(1_000)
        yield "never"



@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path / "server", heartbeat_s=BEAT_S, keepalive_s=60,
                       service="tests.fault.test_server_leavers.Ticking") as server:
        yield server


def _beating(server):
    return client(server, heartbeat=BEAT_S)


def _subscriptions(server):
    return server.census()["subscriptions"]


def _subscriber(directory, server, **options):
    options = {"patterns": "left.>", "heartbeat": BEAT_S, "short": True, **options}
    endpoint = getattr(server, "endpoint", server)
    return Child(directory, "tests.stock_process", "subscribe", endpoint, json.dumps(options))


@contextmanager
def _proxy(directory, server):
    with Child(directory, "tests.tcp_proxy", server.endpoint.removeprefix("tcp://")) as proxy:
        yield proxy, wait_until(proxy.said, "the proxy")[0]["endpoint"]


def _is_gone(server, before, *also):
    now = server.census()
    return all(now[name] <= before[name] for name in ("subscriptions", "channels", "peers", "greenlets", *also))


def test_an_abandoned_iterator_is_forgotten(server):
    with _beating(server) as one:
        stream = one.subscribe("left.>")
        next(stream)
        assert _subscriptions(server) == 1

        stream.close()

        wait_until(lambda: _subscriptions(server) == 0, "forgotten", SOON_S)
        assert one.publish("left.a", 1) == 0


def test_a_client_that_closes_in_the_middle_is_forgotten(server):
    before = server.census()
    with _beating(server) as publisher:
        publisher.publish_many("left.a", list(range(10_000)))

        with _beating(server) as one:
            stream = one.subscribe("left.>", {"start": "earliest"})
            assert [next(stream) for _ in range(50)]

    wait_until(lambda: _is_gone(server, before), "forgotten", SOON_S)


def test_a_client_that_is_killed_is_forgotten_and_others_get_everything(tmp_path, server):
    with _beating(server) as other:
        stream = other.subscribe("left.>")
        next(stream)
        before = server.census()
        with _subscriber(tmp_path / "one", server) as one:
            wait_until(one.said, "the greeting")
            assert _subscriptions(server) == 2

            one.kill()

            first, behind = other.publish_many("left.a", list(range(500)))
            wait_until(lambda: _is_gone(server, before), "forgotten", SOON_S)
        got = [next(item for item in stream if "payload" in item)["offset"] for _ in range(500)]
        assert got == list(range(first, behind))


def _numbers(one):
    return [item[1] for item in one.said() if isinstance(item, list)]


def test_a_client_that_vanishes_without_a_word_is_forgotten_and_resumes_when_it_is_back(tmp_path, server):
    with _beating(server) as publisher, _proxy(tmp_path / "proxy", server) as (proxy, endpoint):
        before = server.census()
        options = {"patterns": "left.>", "heartbeat": BEAT_S, "timeout": 2}
        with Child(tmp_path / "one", "tests.stock_process", "resume", endpoint, json.dumps(options)) as one:
            wait_until(lambda: _subscriptions(server) == 1, "a subscription")
            publisher.publish_many("left.a", list(range(100)))
            wait_until(lambda: one.said_count() == 100, "the first messages")

            proxy.freeze()
            publisher.publish_many("left.a", list(range(100, 200)))
            wait_until(lambda: _is_gone(server, before), lambda: f"forgotten: {before} {server.census()}", SOON_S)
            publisher.publish_many("left.a", list(range(200, 300)))
            proxy.thaw()

            wait_until(lambda: one.said_count() >= 300, "the rest")
            # It may have read why it was given up, and says that too.
            wait_until(lambda: len(_numbers(one)) == 300, "the rest of the numbers")
            assert _numbers(one) == list(range(300))


def test_a_stopped_client_is_forgotten_and_told_nothing_wrong_when_it_goes_on(tmp_path, server):
    with _beating(server) as publisher, _subscriber(tmp_path / "one", server) as one:
        wait_until(one.said, "the greeting")
        publisher.publish_many("left.a", list(range(10)))
        wait_until(lambda: len(messages(one.said())) == 10, "the first messages")

        one.freeze()
        publisher.publish_many("left.a", list(range(5_000)))
        wait_until(lambda: _subscriptions(server) == 0, "forgotten", SOON_S)
        one.thaw()

        assert one.wait() == 0
        *items, ended = one.said()
        got = [message["offset"] for message in messages(items)]
        assert got == list(range(len(got))), "no hole before the end"
        # Its own client finds out, or it reads the server's goodbye, whichever is first.
        assert ended["ended"] in ("LostRemote", "SubscriberSilent")


def test_a_subscriber_that_never_beats_is_forgotten(server):
    with RawPeer(server.endpoint) as peer:
        peer.open_stream("left.>")
        assert _subscriptions(server) == 1

        wait_until(lambda: _subscriptions(server) == 0, "forgotten", SOON_S)


def test_a_subscriber_that_beats_and_reads_nothing_stays(server):
    with RawPeer(server.endpoint) as peer, _beating(server) as publisher:
        channel = peer.open_stream("left.>")
        looks = publisher.stats()["server"]["hub_lag_us"]["count"]
        while publisher.stats()["server"]["hub_lag_us"]["count"] < looks + 100:     # five heartbeats' worth
            peer.event("_zpc_hb", [0], response_to=channel)
            gevent.sleep(BEAT_S / 5)

        assert _subscriptions(server) == 1


@pytest.mark.parametrize("method", ["ticks", "silence"])
def test_a_stream_of_a_users_own_ends_when_its_client_is_gone(server, method):
    before = server.census()
    with RawPeer(server.endpoint) as peer:
        channel = peer.event(method, [])
        peer.event("_zpc_more", [1_000], response_to=channel)
        if method == "ticks":
            assert peer.answer_to(channel) == ("STREAM", "tick")
        else:
            peer.sync()

    wait_until(lambda: _is_gone(server, before), lambda: f"forgotten: {before} {server.census()}", SOON_S)


def _come_and_go(tmp_path, server, processes, visits):
    """Let clients come and go once to fill every cache, then again; return the census before and after."""
    def wave(name, count):
        visitors = [Child(tmp_path / f"{name}{number}", "tests.stock_process", "visit", server.endpoint,
                          json.dumps({"count": count, "heartbeat": BEAT_S})) for number in range(processes)]
        try:
            assert [visitor.wait(400) for visitor in visitors] == [0] * processes, visitors[0].log()
        finally:
            for visitor in visitors:
                visitor.kill()
        wait_until(lambda: _subscriptions(server) == 0, "all forgotten", SOON_S)

    wave("first", visits // 4)
    before = server.census()
    wave("second", visits)
    wait_until(lambda: _is_gone(server, before, "fds"),
               lambda: f"forgotten: {before} {server.census()}", SOON_S)
    return before, server.census()


def test_hundreds_of_clients_that_come_and_go_leave_nothing_behind(tmp_path, server):
    before, after = _come_and_go(tmp_path, server, processes=4, visits=100)

    assert after["rss"] < before["rss"] + (4 << 20)


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_two_thousand_clients_that_come_and_go_leave_nothing_behind(tmp_path, server):
    before, after = _come_and_go(tmp_path, server, processes=4, visits=500)

    print(before, after)
    assert after["rss"] < before["rss"] + (8 << 20)
