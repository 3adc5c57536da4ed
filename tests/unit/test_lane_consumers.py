"""Durable consumers on the lane: what settles is answered without a greenlet; who leaves gives back at once."""

from contextlib import contextmanager

import gevent
import pytest

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
def serving(service=Service, **settings):
    """Yield ``(broker, server, peer)`` of a server in this process."""
    with Broker.open("memory:", Settings(**settings)) as broker:
        server = Server(service(broker))
        server.bind("tcp://127.0.0.1:0")
        with RawPeer(server.endpoints[0]) as peer:
            yield broker, server, peer
        server.close()


@pytest.fixture
def served():
    with serving() as parts:
        yield parts


def join(peer, count=0, **options):
    """Join the consumer "c" of the topics "a.>"; return ``(channel, greeting, messages)`` with *count* messages."""
    channel = peer.event("subscribe", ["a.>", {"consumer": "c", "start": "earliest", **options}])
    name, greeting = peer.answer_to(channel)
    assert name == "STREAM", greeting
    peer.event("_zpc_more", [100], response_to=channel)
    return channel, greeting, [peer.answer_to(channel)[1] for _ in range(count)]


def call(peer, name, *args):
    return peer.answer_to(peer.event(name, list(args)))


def named(messages):
    return [[message["offset"], message["token"]] for message in messages]


def until(condition):
    while not condition():
        gevent.sleep(0.002)


# --- receiving -----------------------------------------------------------------------------------


def test_a_member_gets_messages_with_delivery_and_token(served):
    broker, _, peer = served
    broker.publish_many("a.b", [10, 11], keys=["k", None])

    _, greeting, messages = join(peer, 2, max_in_flight=7, ack_wait_s=12)

    assert [greeting[name] for name in ("consumer", "max_in_flight", "ack_wait_s", "held")] == ["c", 7, 12, []]
    assert [(one["payload"], one["offset"], one["delivery"]) for one in messages] == [(10, 0, 1), (11, 1, 1)]
    assert messages[0]["token"] == messages[1]["token"] > 0


def test_a_member_in_batches_gets_the_same_bytes_with_a_map_before_them(served):
    broker, _, peer = served
    broker.publish_many("a.b", [10, 11])
    stored = broker.store.get(0).topic

    _, greeting, (item,) = join(peer, 1, format="batch", ack_wait_s=12)

    number, told, packed = item
    assert (greeting["n"], number, told["delivery"], told["ack_wait_s"]) == (0, 1, 1, 12)
    assert told["token"] > 0 and stored.encode() in packed


def test_no_more_is_sent_than_may_be_in_flight(served):
    broker, _, peer = served
    broker.publish_many("a.b", list(range(10)))
    channel, _, messages = join(peer, 3, max_in_flight=3)
    peer.sync()

    assert call(peer, "ack", "c", named(messages[:2])) == ("OK", [2])

    assert [peer.answer_to(channel)[1]["offset"] for _ in range(2)] == [3, 4]


def test_a_join_that_is_refused_says_why_and_leaves_nothing(served):
    broker, _, peer = served
    join(peer, max_deliveries=5)

    for patterns, options, error in (
            ("a.>", {"max_deliveries": 6}, "ConsumerConflict"), ("b", {}, "ConsumerConflict"),
            ("a.>", {"until": "end"}, "InvalidOption"), ("a.>", {"policy": "drop"}, "InvalidOption"),
            (None, {"consumer": "nobody"}, "UnknownConsumer"), ("a.>", {"consumer": "not a name"}, "InvalidOption"),
            ("a.>", {"held": [[1]]}, "InvalidOption"), ("a.>", {"max_in_flight": 0}, "InvalidOption")):
        name, (kind, text, traceback) = call(peer, "subscribe", patterns, {"consumer": "c", **options})
        assert (name, kind, traceback) == ("ERR", error, None), text

    assert len(broker.subscriptions) == 1 and broker.consumers.by_name.keys() == {"c"}


def test_a_consumers_own_options_need_a_consumer(served):
    _, _, peer = served

    assert call(peer, "subscribe", "a", {"ack_wait_s": 5})[1][0] == "InvalidOption"


# --- settling --------------------------------------------------------------------------------------


def test_what_settles_is_answered_without_a_greenlet_of_its_own(served):
    broker, server, peer = served
    broker.publish_many("a.b", list(range(6)))
    _, _, messages = join(peer, 6)
    token = messages[0]["token"]
    server._lane._run_method = None     # whoever calls it fails

    assert call(peer, "ack", "c", 0) == ("OK", [1])
    assert call(peer, "ack", "c", [[1, token], [2, 4, token]]) == ("OK", [3])
    assert call(peer, "extend", "c", [4, 5.0], 60) == ("OK", [2])
    assert call(peer, "nack", "c", [[4, token]], {"delay_s": 1000, "reason": "no"}) == ("OK", [1])
    assert call(peer, "reject", "c", [[5.0, float(token)]], {"reason": "bad"}) == ("OK", [1])

    assert broker.consumers.describe("c")["waiting"] == 1


def test_an_ack_up_to_an_offset_needs_no_deliveries(served):
    broker, _, peer = served
    broker.publish_many("a.b", list(range(6)))
    join(peer, 6)

    assert call(peer, "ack", "c", None, {"before": 4}) == ("OK", [4])
    assert call(peer, "ack", "c", [4], {"before": 0}) == ("OK", [1])


def test_a_stale_ack_is_told_and_the_rest_of_the_call_is_done(served):
    broker, _, peer = served
    broker.publish_many("a.b", list(range(3)))
    channel, _, messages = join(peer, 3)
    assert call(peer, "nack", "c", [[1, messages[1]["token"]]]) == ("OK", [1])
    again = peer.answer_to(channel)[1]

    name, (kind, text, _) = call(peer, "ack", "c", named(messages))

    assert (name, kind, again["offset"], again["delivery"]) == ("ERR", "StaleDelivery", 1, 2)
    assert "at 1:" in text
    assert call(peer, "ack", "c", named([again])) == ("OK", [1])
    assert broker.consumers.describe("c")["pending"] == 0


@pytest.mark.parametrize(("verb", "args"), [
    ("ack", []), ("ack", ["c"]), ("ack", ["c", 1, {}, 4]), ("ack", None), ("ack", {"c": 1}), ("ack", "c1"),
    ("ack", ["c", None]), ("ack", ["c", "1"]), ("ack", ["c", [[]]]), ("ack", ["c", [[1, 2, 3, 4]]]),
    ("ack", ["c", [[5, 5, 1]]]), ("ack", ["c", -1]), ("ack", ["c", 1.5]), ("ack", ["c", 2**63]), ("ack", ["c", True]),
    ("ack", ["c", [float("nan")]]), ("ack", ["c", [[1, None]]]), ("ack", ["c", [[0, 2**53 - 1, 1]]]),
    ("ack", ["c", 1, {"delay_s": 1}]), ("ack", ["c", 1, 5]), ("ack", ["c", 1, {"before": "x"}]),
    ("ack", [5, 1]), ("ack", [None, 1]), ("ack", [["c"], 1]), ("ack", [{}, 1]), ("ack", ["nobody", 1]),
    ("nack", ["c", 1, {"delay_s": -1}]), ("nack", ["c", 1, {"delay_s": float("inf")}]),
    ("nack", ["c", 1, {"delay_s": "soon"}]), ("nack", ["c", 1, {"reason": 5}]), ("nack", ["c", 1, {"before": 5}]),
    ("reject", ["c", 1, {"reason": b"bytes"}]), ("reject", ["c", 1, {"delay_s": 5}]),
    ("extend", ["c", 1]), ("extend", ["c", 1, None]), ("extend", ["c", 1, "5"]), ("extend", ["c", 1, {}]),
    ("extend", ["c", 1, float("nan")]), ("extend", ["c", 1, -1]), ("extend", ["c", 1, 5, 6])], ids=repr)
def test_what_makes_no_sense_is_refused_and_nothing_is_settled(served, verb, args):
    broker, server, peer = served
    broker.publish_many("a.b", list(range(3)))
    join(peer, 3)

    name, (kind, text, traceback) = peer.answer_to(peer.event(verb, args))

    assert name == "ERR" and traceback is None and text
    assert kind in ("MalformedRequest", "InvalidOption", "UnknownConsumer", "LimitExceeded")
    assert broker.consumers.describe("c")["in_flight"] == 3
    assert server._lane.stats()["channels"] == 1


class Careful(Service):
    def ack(self, consumer, deliveries, options=None):
        """Acknowledge, but not everything."""
        return "no"


def test_a_verb_that_a_subclass_overrides_is_the_one_that_is_called():
    with serving(Careful) as (_, _, peer):
        assert call(peer, "ack", "c", 1) == ("OK", ["no"])


def test_the_counters_sum_up_all_consumers(served):
    broker, _, peer = served
    broker.publish_many("a.b", list(range(5)))
    _, _, messages = join(peer, 3, max_in_flight=3)
    call(peer, "create_consumer", "other", "a.>")
    call(peer, "ack", "c", named(messages[:1]))
    call(peer, "reject", "c", named(messages[1:2]))
    call(peer, "nack", "c", named(messages[2:]), {"delay_s": 1000})
    call(peer, "pause", "other")

    _, (stats,) = call(peer, "stats")

    assert stats["consumers"] == {"consumers": 2, "members": 1, "pending": 3, "in_flight": 2, "waiting": 1, "dead": 1,
                                  "paused": 1, "acked": 1}


# --- leaving ----------------------------------------------------------------------------------------


def test_a_member_whose_connection_breaks_gives_back_at_once_long_before_a_heartbeat_is_missed():
    with serving(heartbeat_s=1000) as (broker, server, peer):
        broker.publish_many("a.b", list(range(4)))
        with RawPeer(server.endpoints[0]) as leaving:
            join(leaving, 4)
            channel, _, _ = join(peer)

        messages = [peer.answer_to(channel)[1] for _ in range(4)]

        assert [(one["offset"], one["delivery"]) for one in messages] == [(n, 2) for n in range(4)]
        assert len(broker.subscriptions) == 1 and server._lane.stats()["lost_peers"] == 1


def test_a_fetch_whose_client_leaves_while_it_waits_takes_nothing_from_others():
    with serving(heartbeat_s=1000) as (broker, server, peer):
        broker.consumers.create("c", "a.>")
        with RawPeer(server.endpoints[0]) as leaving:
            leaving.event("fetch", ["c", {"timeout_s": 1000}])
            leaving.sync()
        until(lambda: not server._lane._peers)

        broker.publish("a.b", 1)

        _, ((message,),) = call(peer, "fetch", "c", {"timeout_s": 20})
        assert (message["payload"], message["delivery"]) == (1, 1)


def test_of_many_who_share_a_connection_all_leave_with_it():
    with serving(heartbeat_s=1000) as (broker, server, _):
        with RawPeer(server.endpoints[0]) as leaving:
            for _ in range(5):
                join(leaving)
            assert len(broker.consumers.describe("c")["members"]) == 5

        until(lambda: not broker.consumers.describe("c")["members"])
        assert not server._lane._peers


def test_those_who_stay_are_not_disturbed_by_those_who_leave():
    with serving(heartbeat_s=1000) as (broker, server, peer):
        channel, _, _ = join(peer)
        for _ in range(20):
            with RawPeer(server.endpoints[0]) as leaving:
                leaving.sync()
        broker.publish("a.b", 1)

        assert peer.answer_to(channel)[1]["payload"] == 1
        assert server._lane.stats()["lost_peers"] == 0


def test_a_member_that_falls_silent_gives_back_after_two_heartbeats():
    with serving(heartbeat_s=0.05) as (broker, _, peer):
        broker.publish_many("a.b", list(range(4)))
        join(peer, 4)

        until(lambda: broker.consumers.describe("c")["waiting"] == 4)

        assert broker.consumers.describe("c")["members"] == []


def test_unsubscribe_ends_a_member_and_tells_it_to_join_again(served):
    broker, _, peer = served
    channel, greeting, _ = join(peer)
    peer.sync()

    assert broker.unsubscribe(greeting["id"]) is True
    (_, end), (name, (kind, text, _)) = peer.answer_to(channel), peer.answer_to(channel)

    assert (end["control"], end["why"], end["resume"]) == ("end", "Unsubscribed", None)
    assert (name, kind) == ("ERR", "Unsubscribed") and "join again" in text
    assert not broker.subscriptions


def test_a_paused_consumer_says_so(served):
    broker, _, peer = served
    channel, _, _ = join(peer)

    broker.consumers.pause("c")
    assert peer.answer_to(channel)[1] == {"control": "paused", "why": "by request"}
    broker.consumers.resume("c")
    broker.publish("a.b", 1)

    assert peer.answer_to(channel)[1] == {"control": "resumed"}
    assert peer.answer_to(channel)[1]["payload"] == 1


def test_who_joins_a_paused_consumer_is_told_in_the_greeting(served):
    broker, _, peer = served
    broker.consumers.create("c", "a.>", start="earliest")
    assert join(peer)[1]["paused"] is False

    broker.consumers.pause("c")

    assert join(peer)[1]["paused"] == "by request"


def test_a_deleted_consumer_ends_its_members(served):
    broker, _, peer = served
    channel, _, _ = join(peer)
    peer.sync()

    broker.consumers.delete("c")

    assert peer.answer_to(channel)[1]["why"] == "ConsumerDeleted"
    assert peer.answer_to(channel)[1][0] == "ConsumerDeleted"
