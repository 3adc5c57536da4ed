"""The lane against a raw ZeroMQ peer: credit, goodbyes, heartbeats, and frames that are not as they should be."""

from contextlib import contextmanager

import gevent
import pytest

from tests.processes import DEADLINE_S
from tests.raw_peer import RawPeer
from zstreampub.broker import Broker
from zstreampub.server import Server
from zstreampub.service import Service
from zstreampub.settings import Settings


@pytest.fixture(autouse=True)
def deadline():
    with gevent.Timeout(30):
        yield


@contextmanager
def serving(**settings):
    """Yield ``(broker, server, peer)`` of a server in this process."""
    with Broker.open("memory:", Settings(**settings)) as broker:
        server = Server(Service(broker))
        server.bind("tcp://127.0.0.1:0")
        with RawPeer(server.endpoints[0]) as peer:
            yield broker, server, peer
        server.close()


@pytest.fixture
def served():
    with serving() as parts:
        yield parts


def grant(peer, channel, count):
    peer.event("_zpc_more", [count], response_to=channel)


def received(peer, channel, least=0):
    """Everything that the server has sent on *channel* up to now, as ``(name, args)``, once there are *least*."""
    events = received_now(peer, channel)
    with gevent.Timeout(DEADLINE_S):
        while len(events) < least:
            events += received_now(peer, channel)
    return events


def received_now(peer, channel):
    mark = peer.event("about", [])
    events = []
    while (event := peer.receive()) is not None:
        header, name, args = event
        if header["response_to"] == mark and name != "_zpc_hb":
            return events
        if header["response_to"] == channel and name != "_zpc_hb":
            events.append((name, args))
    raise AssertionError("the server does not answer")


def offsets(events):
    return [item["offset"] for name, item in events if name == "STREAM" and "control" not in item]


def lane_of(server):
    return server._lane


# --- credit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("granted", "messages"), [(0, 0), (1, 0), (2, 0), (3, 1), (5, 3), (12, 10), (100, 10)])
def test_the_last_two_credits_are_kept_for_the_end(served, granted, messages):
    broker, _, peer = served
    broker.publish_many("a", list(range(10)))
    channel = peer.open_stream("a", {"start": "earliest"})

    grant(peer, channel, granted)

    assert offsets(received(peer, channel, least=messages)) == list(range(messages))


def test_with_a_window_of_one_message_each_grant_brings_one(served):
    broker, _, peer = served
    broker.publish_many("a", list(range(5)))
    channel = peer.open_stream("a", {"start": "earliest"})
    grant(peer, channel, 2)

    got = []
    for _ in range(5):
        grant(peer, channel, 1)
        got.append(offsets(received(peer, channel, least=1)))

    assert got == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("nonsense", [-5, 0, 2.0, True, "9", None, [], {}, b"9", float("nan")], ids=repr)
def test_a_grant_of_nonsense_grants_nothing_and_takes_nothing(served, nonsense):
    broker, _, peer = served
    broker.publish_many("a", list(range(5)))
    channel = peer.open_stream("a", {"start": "earliest"})
    grant(peer, channel, 3)
    assert offsets(received(peer, channel, least=1)) == [0]

    grant(peer, channel, nonsense)
    assert received(peer, channel) == []
    grant(peer, channel, 1)

    assert offsets(received(peer, channel, least=1)) == [1]


def test_what_is_granted_is_cut_to_the_servers_limit():
    with serving(max_credit=10) as (broker, _, peer):
        broker.publish_many("a", list(range(50)))
        channel = peer.open_stream("a", {"start": "earliest"})

        grant(peer, channel, 2**63)

        assert offsets(received(peer, channel, least=8)) == list(range(8))


def test_nobody_can_grant_or_keep_alive_the_channel_of_another_connection(served):
    broker, server, peer = served
    broker.publish("a", 1)
    channel = peer.open_stream("a", {"start": "earliest"})

    with RawPeer(server.endpoints[0]) as stranger:
        grant(stranger, channel, 100)
        stranger.sync()

    assert received(peer, channel) == []
    assert lane_of(server).stray_frames == 1


def test_a_batch_stream_numbers_every_item(served):
    broker, _, peer = served
    channel = peer.event("subscribe", ["a", {"format": "batch"}])
    _, greeting = peer.answer_to(channel)
    grant(peer, channel, 100)
    for payload in range(3):
        broker.publish("a", payload)
        peer.sync()

    items = [item for _, item in received(peer, channel)]

    numbers = [greeting["n"], *(item[0] for item in items)]
    assert numbers == list(range(len(numbers)))


# --- goodbye -------------------------------------------------------------------------------------


@pytest.mark.parametrize("granted", [0, 1, 2, 3, 100])
def test_the_goodbye_leaves_at_once_whatever_was_granted(served, granted):
    broker, server, peer = served
    broker.publish_many("a", list(range(10)))
    channel = peer.open_stream("a", {"start": "earliest"})
    grant(peer, channel, granted)
    before = offsets(received(peer, channel, least=min(max(granted - 2, 0), 10)))
    subscription, = broker.subscriptions.values()

    broker.unsubscribe(subscription.id)
    *end, error = received(peer, channel, least=1 + bool(granted))

    name, (kind, text, traceback) = error
    assert (name, kind, traceback) == ("ERR", "Unsubscribed", None)
    assert f"Resume at offset {len(before)}." in text
    if granted:
        (_, item), = end
        assert (item["control"], item["why"], item["resume"]) == ("end", "Unsubscribed", len(before))
    else:
        assert end == []
    assert not broker.subscriptions and not lane_of(server)._peers


def test_a_stream_that_is_complete_ends_normally(served):
    broker, server, peer = served
    broker.publish_many("a", list(range(3)))
    channel = peer.open_stream("a", {"start": "earliest", "until": "end"})

    grant(peer, channel, 100)
    *_, end, done = received(peer, channel, least=5)

    assert end[1] == {"control": "end", "why": "until", "resume": 3, "message": ""}
    assert done == ("STREAM_DONE", None)
    assert not lane_of(server)._peers


def test_a_complete_stream_ends_with_the_credit_that_was_kept_for_that(served):
    broker, _, peer = served
    broker.publish_many("a", list(range(3)))
    channel = peer.open_stream("a", {"start": "earliest", "until": "end"})

    grant(peer, channel, 5)
    events = received(peer, channel, least=5)

    assert offsets(events) == [0, 1, 2]
    assert [name for name, _ in events[3:]] == ["STREAM", "STREAM_DONE"]


def test_a_complete_stream_waits_for_credit_to_say_so(served):
    broker, _, peer = served
    channel = peer.open_stream("a", {"start": "earliest", "until": 0})
    assert received(peer, channel) == []

    grant(peer, channel, 1)

    assert [name for name, _ in received(peer, channel, least=2)] == ["STREAM", "STREAM_DONE"]
    assert not broker.subscriptions


def test_a_subscription_that_is_refused_says_why_and_leaves_nothing(served):
    broker, server, peer = served

    for patterns, options, error in (("a..b", {}, "InvalidTopic"), ("a", {"start": 5}, "OffsetOutOfRange"),
                                     ("a", {"nothing": 5}, "InvalidOption"), ("a", 5, "InvalidOption")):
        name, (kind, _, traceback) = peer.answer_to(peer.event("subscribe", [patterns, options]))
        assert (name, kind, traceback) == ("ERR", error, None)

    assert not broker.subscriptions and not lane_of(server)._peers


def test_one_connection_has_no_more_streams_than_the_limit_and_room_comes_back():
    with serving(max_subscriptions_per_client=2) as (broker, _, peer):
        peer.open_stream("a")
        peer.open_stream("a")
        refused = peer.answer_to(peer.event("subscribe", ["a"]))
        broker.unsubscribe(next(iter(broker.subscriptions)))
        peer.sync()

        assert refused[1][0] == "LimitExceeded"
        peer.open_stream("a")


# --- time ----------------------------------------------------------------------------------------


def next_event(peer, name):
    while (event := peer.receive()) is not None:
        if event[1] == name:
            return event
    raise AssertionError(f"there is no {name}")


def test_every_open_channel_hears_the_servers_heartbeat():
    with serving(heartbeat_s=0.05) as (_, _, peer):
        channel = peer.open_stream("a")

        for _ in range(3):
            header, _, args = next_event(peer, "_zpc_hb")
            assert (header["response_to"], args) == (channel, [0])
            peer.event("_zpc_hb", [0], response_to=channel)


def streams_of(server):
    return [channel for peer in lane_of(server)._peers.values() for channel in peer.channels.values()]


def test_a_heartbeat_is_sent_before_its_time_for_the_lane_looks_only_now_and_then():
    with serving(heartbeat_s=1000) as (_, server, peer):
        channel = peer.open_stream("a")
        stream, = streams_of(server)
        since = stream.seen

        lane_of(server)._rounds.look_at(stream, since + 900)
        assert heard_beat(peer, channel)
        lane_of(server)._rounds.look_at(stream, since + 1700)
        assert not heard_beat(peer, channel)
        lane_of(server)._rounds.look_at(stream, since + 1849)      # one look before its time, and it is not over yet

        assert heard_beat(peer, channel)


def test_streams_that_were_opened_together_do_not_beat_together():
    with serving(heartbeat_s=1000) as (_, server, peer):
        for _ in range(20):
            peer.open_stream("a")

        waits = [stream.beat_at - stream.seen for stream in streams_of(server)]

        assert len(set(map(int, waits))) > 1
        assert all(450 <= wait <= 900 for wait in waits)


def heard_beat(peer, channel):
    """Whether a heartbeat of *channel* is among what has come up to now."""
    mark, beats = peer.event("about", []), 0
    while (event := peer.receive()) is not None:
        header, name, _ = event
        if header["response_to"] == mark and name != "_zpc_hb":
            return bool(beats)
        beats += header["response_to"] == channel and name == "_zpc_hb"
    raise AssertionError("the server does not answer")


def test_others_have_turns_while_many_channels_are_looked_at(monkeypatch):
    monkeypatch.setattr("zstreampub.rounds._LOOK_S", 0)
    with serving(heartbeat_s=1000) as (_, server, peer):
        for _ in range(5):
            peer.open_stream("a")
        looked_at, seen = [], []
        monkeypatch.setattr(lane_of(server)._rounds, "look_at", lambda channel, now: looked_at.append(channel))

        def others():
            while len(looked_at) < 5:
                seen.append(len(looked_at))
                gevent.idle(2)

        other = gevent.spawn(others)
        lane_of(server)._rounds.go()
        other.get()

        assert {1, 2, 3, 4}.intersection(seen)


def test_a_channel_that_ends_while_others_are_looked_at_is_left_alone(monkeypatch):
    monkeypatch.setattr("zstreampub.rounds._LOOK_S", 0)
    with serving(heartbeat_s=1000) as (_, server, peer):
        for _ in range(2):
            peer.open_stream("a")
        first, second = streams_of(server)
        looked_at = []

        def look_at(channel, now):
            looked_at.append(channel)
            second.feed.subscription.end()
            second.close()

        monkeypatch.setattr(lane_of(server)._rounds, "look_at", look_at)
        lane_of(server)._rounds.go()

        assert looked_at == [first]


def test_a_peer_that_says_nothing_for_two_heartbeats_is_freed():
    with serving(heartbeat_s=0.05) as (broker, server, peer):
        peer.open_stream("a")

        while broker.subscriptions or lane_of(server)._peers:
            peer.receive(deadline_s=0.05)

        assert lane_of(server).stats()["lost_peers"] == 1
        peer.sync()


def test_a_peer_that_beats_stays_though_it_reads_nothing():
    with serving(heartbeat_s=0.05) as (broker, _, peer):
        channel = peer.open_stream("a")

        for _ in range(6):
            next_event(peer, "_zpc_hb")
            peer.event("_zpc_hb", [0], response_to=channel)

        assert len(broker.subscriptions) == 1


def test_a_silent_subscription_is_told_how_far_the_log_is():
    with serving(keepalive_s=0.02, heartbeat_s=0.2) as (broker, _, peer):
        channel = peer.open_stream("a")
        broker.publish_many("b", [1] * 7)
        grant(peer, channel, 10)

        _, item = peer.answer_to(channel)

        assert item == {"control": "keepalive", "offset": 7}


# --- frames --------------------------------------------------------------------------------------


def test_a_publish_is_answered_with_its_offset(served):
    _, server, peer = served

    assert peer.answer_to(peer.event("publish", ["a", 1])) == ("OK", [0])
    assert peer.answer_to(peer.event("publish", ["a", 1, {"key": "k"}])) == ("OK", [1])
    assert peer.answer_to(peer.event("publish_many", ["a", [1, 2]])) == ("OK", [[2, 4]])
    assert not lane_of(server)._peers


def test_a_message_id_in_use_is_not_taken_again(served):
    broker, server, peer = served
    channel = peer.open_stream("a")

    peer.event("publish", ["a", 1], message_id=channel)
    peer.sync()

    assert broker.next == 0
    assert lane_of(server).bad_frames == 1


@pytest.mark.parametrize("args", [["a"], ["a", 1, {}, 5], ["a..b", 1], ["a", {1: 2}], ["a", 1, {"unknown": 1}], [5, 5],
                                  ["a", 1, {"key": ""}], ["a", 1, {"producer": "p"}], None, 5, {}], ids=repr)
def test_a_publish_that_is_wrong_is_answered_and_leaves_nothing(served, args):
    broker, server, peer = served

    name, (kind, text, traceback) = peer.answer_to(peer.event("publish", args))

    assert name == "ERR" and traceback is None and text
    assert kind in ("MalformedRequest", "InvalidTopic", "InvalidPayload", "InvalidOption")
    assert broker.next == 0 and not lane_of(server)._peers


def test_frames_that_make_no_sense_are_counted_and_harm_nobody(served):
    _, server, peer = served
    lane = lane_of(server)

    for blob in (b"", b"\xc1", bytes(100), b"\x93\x80\xa1a\x90"):
        peer.send(blob)
    peer.send_parts(b"one part")
    peer.send_parts(b"not empty", b"x")
    peer.send_parts(b"", b"x", b"y")
    peer.event("_zpc_more", [5])
    peer.event("_zpc_hb", [0])
    peer.event("publish", ["a", 1], response_to=b"nobody")
    peer.sync()

    stats = lane.stats()
    assert (stats["bad_frames"], stats["stray_frames"], stats["channels"]) == (7, 3, 0)


def test_a_closed_server_does_not_harm_a_broker_that_lives_on(caplog):
    with serving() as (broker, server, peer):
        hold = broker.subscribe("a", policy="block", max_messages=1)
        peer.event("publish_many", ["a", [1, 2]])
        peer.sync()
        assert hold.describe()["holding"] == 1

        server.close()
        hold.close()

        assert broker.failed is None
        assert broker.publish("b", 1) == 2
        assert "internal error" not in caplog.text


def test_gathered_publishes_keep_the_limits_of_a_batch():
    with serving(max_batch_bytes=1024, max_batch_messages=3) as (broker, _, peer):
        requests = [peer.event("publish", ["a", bytes(200)]) for _ in range(20)]
        answers = {}
        while len(answers) < 20:
            header, name, args = peer.receive()
            answers[header["response_to"]] = (name, args)

        assert [answers[request] for request in requests] == [("OK", [offset]) for offset in range(20)]
        assert all(broker.get(offset).payload == bytes(200) for offset in range(20))
