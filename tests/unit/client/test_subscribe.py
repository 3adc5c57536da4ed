"""Subscriptions of the client: every message once and in order, whatever the connection does."""

import gc
from time import monotonic

import gevent
import pytest

from tests.unit.client.fake_server import DEADLINE_S, outcome, sealed, spawned, turn
from zstreampub.client import Client
from zstreampub.client.stream import WINDOW
from zstreampub.errors import (
    ConnectionLost,
    EpochMismatch,
    GapError,
    InvalidOption,
    InvalidTopic,
    LimitExceeded,
    RequestTimeout,
    ServerDraining,
    SlowConsumer,
    SubscriptionEnded,
    Unsubscribed,
    ZStreamPubError,
)
from zstreampub.message import Batch
from zstreampub.payload import Undecodable


def hold(request):
    """Leave a request without an answer."""


def take(subscription, count):
    """Return the payloads of the next *count* messages."""
    return [subscription.get(DEADLINE_S).payload for _ in range(count)]


def ending(subscription):
    """Return the payloads up to the end, and what the end was: None or the error."""
    payloads = []
    try:
        with gevent.Timeout(DEADLINE_S, AssertionError("the subscription does not end")):
            for message in subscription:
                payloads.append(message.payload)
    except ZStreamPubError as error:
        return payloads, error
    return payloads, None


# --- opening ---------------------------------------------------------------------------------


def test_a_subscription_is_open_when_subscribe_returns(server, client):
    server.on["subscribe"] = lambda request: request.greet(id="s1", epoch="e1", offset=7)

    subscription = client.subscribe(["a.*", "b"])

    assert (subscription.id, subscription.epoch, subscription.offset) == ("s1", "e1", 7)
    assert server.named("subscribe")[0].args == [["a.*", "b"], {"start": "new", "format": "batch"}]


def test_options_reach_the_server_as_they_are(server, client):
    client.subscribe("a", start={"last": 3}, until=9, policy="drop", max_messages=5, max_bytes=6, block_timeout_s=0.5,
                     epoch="log-1", name="me")

    assert server.named("subscribe")[0].options == {
        "start": {"last": 3}, "until": 9, "policy": "drop", "max_messages": 5, "max_bytes": 6, "block_timeout_s": 0.5,
        "epoch": "log-1", "name": "me", "format": "batch"}


def test_the_clients_name_is_that_of_its_subscriptions_unless_they_have_one(server):
    with Client(server.endpoint, timeout_s=DEADLINE_S, name="me") as client:
        client.subscribe()
        client.subscribe(name="other")

    assert [request.options["name"] for request in server.named("subscribe")] == ["me", "other"]


def test_an_option_that_the_server_refuses_raises_at_the_call(server, client):
    server.on["subscribe"] = lambda request: request.error("InvalidOption", "No such policy.")

    with pytest.raises(InvalidOption, match="No such policy"):
        client.subscribe("a", policy="magic")

    assert not client._channels._streams


def test_a_subscribe_that_the_server_does_not_answer_ends_in_time(server):
    server.on["subscribe"] = hold
    with Client(server.endpoint, timeout_s=0.2) as client:
        with pytest.raises(RequestTimeout, match="No answer to the subscribe from the server at tcp://"):
            client.subscribe("a")

        assert not client._channels._channels


def test_a_subscribe_waits_until_a_draining_server_is_replaced(server, client):
    server.on["subscribe"] = lambda request: request.error("ServerDraining")
    waiting = spawned(client.subscribe, "a", start={"last": 2})
    server.wait_for("subscribe")
    server.on.clear()

    subscription = outcome(waiting)

    assert server.named("subscribe")[-1].options["start"] == {"last": 2}
    assert subscription.offset == 0


def test_until_the_end_means_the_end_at_the_first_connection(server, client):
    server.log = [("a", at) for at in range(5)]

    client.subscribe("a", start="earliest", until="end")

    assert server.named("subscribe")[0].options["until"] == 5


# --- reading -----------------------------------------------------------------------------------


def test_messages_come_in_order_and_the_offset_is_right_after_each(server, client):
    subscription = client.subscribe("a")
    stream = server.wait_for("subscribe")
    stream.batches(sealed(0, "x", "y"), sealed(5, "z"))
    stream.end("until", 6)

    seen = [(message.offset, message.payload, subscription.offset) for message in subscription]

    assert seen == [(0, "x", 1), (1, "y", 2), (5, "z", 6)]
    assert subscription.offset == 6


def test_a_loop_that_was_left_goes_on_where_it_was_left(server, client):
    subscription = client.subscribe("a")
    server.wait_for("subscribe").messages(0, 1, 2, 3, 4, 5)

    for message in subscription:
        if message.payload == 2:
            break
    third, fourth = next(subscription), subscription.get(DEADLINE_S)
    rest = next(subscription.batches())

    assert (third.payload, fourth.payload, rest.payloads) == (3, 4, [5])
    assert subscription.offset == 5


def test_batches_are_handed_out_whole_and_messages_after_them_are_the_next(server, client):
    subscription = client.subscribe("a")
    stream = server.wait_for("subscribe")
    stream.batches(sealed(0, 1, 2), sealed(2, 3, 4))

    batch = next(subscription.batches())

    assert (batch.payloads, subscription.offset) == ([1, 2], 2)
    assert take(subscription, 2) == [3, 4]


def test_get_raises_when_nothing_comes_and_goes_on_afterwards(server, client):
    subscription = client.subscribe("a")
    with pytest.raises(RequestTimeout):
        subscription.get(0.02)

    server.wait_for("subscribe").messages(0, "late")

    assert take(subscription, 1) == ["late"]


def test_get_after_the_last_message_says_that_it_was_the_last(server, client):
    subscription = client.subscribe("a")
    server.wait_for("subscribe").end("until", 9)

    with pytest.raises(SubscriptionEnded) as caught:
        subscription.get(DEADLINE_S)

    assert caught.value.resume == 9
    assert list(subscription) == []


def test_a_payload_that_cannot_be_decoded_is_handed_out_as_such(server, client):
    broken = Batch.assemble("a", [b"\xc1\x00"], {}, 0, 1_700_000_000_000_000)
    subscription = client.subscribe("a")
    server.wait_for("subscribe").batches(broken, sealed(1, "next"))

    first, second = take(subscription, 2)

    assert isinstance(first, Undecodable)
    assert second == "next"


def test_several_greenlets_share_the_messages_of_one_subscription(server, client):
    subscription = client.subscribe("a")
    stream = server.wait_for("subscribe")
    readers = [spawned(lambda: [message.payload for message in subscription]) for _ in range(3)]
    turn()

    for first in range(0, 30, 3):
        stream.messages(first, first, first + 1, first + 2)
        turn()
    stream.end("until", 30)

    assert sorted(payload for reader in readers for payload in outcome(reader)) == list(range(30))


# --- credit ---------------------------------------------------------------------------------------


def test_credit_is_granted_for_what_was_consumed_and_not_for_what_has_come(server, client):
    subscription = client.subscribe("a")
    stream = server.wait_for("subscribe")
    server.wait(lambda: stream.credit == WINDOW)
    for at in range(WINDOW - 2):
        stream.messages(at, at)
    turn()
    assert stream.grants == [WINDOW]

    quarter = WINDOW // 4
    take(subscription, quarter - 1)
    turn()
    granted_before = list(stream.grants)
    take(subscription, 1)       # the greeting and all but one of the messages are behind us
    server.wait(lambda: len(stream.grants) > 1)

    assert granted_before == [WINDOW]
    assert stream.grants[1:] == [quarter]


def test_credit_for_large_items_is_granted_sooner(server, client):
    subscription = client.subscribe("a")
    stream = server.wait_for("subscribe")
    stream.messages(0, b"x" * 300_000)
    stream.messages(1, b"y")

    take(subscription, 2)

    server.wait(lambda: stream.grants[1:] == [2])


def test_a_server_that_sends_more_than_it_may_is_left(server, client):
    subscription = client.subscribe("a")
    stream = server.wait_for("subscribe")
    for at in range(100):
        stream.messages(at, at)

    reading = spawned(take, subscription, 100)

    again = resumed(server)
    at = again.options["start"]
    again.messages(at, *range(at, 100))

    assert 0 < at < 100
    assert outcome(reading) == list(range(100))


# --- controls --------------------------------------------------------------------------------------


def test_a_keepalive_moves_the_place_to_resume_from_and_never_back(server, client):
    controls = []
    subscription = client.subscribe("a", on_control=controls.append)
    stream = server.wait_for("subscribe")
    stream.control("keepalive", offset=50)
    stream.control("keepalive", offset=20)
    stream.control("news", text="a control that we do not know")

    with pytest.raises(RequestTimeout):
        subscription.get(0.1)

    assert subscription.offset == 50
    assert [control["control"] for control in controls] == ["subscribed", "keepalive", "keepalive", "news"]


def test_a_gap_is_raised_once_at_its_place_and_reading_goes_on(server, client):
    subscription = client.subscribe("a")
    stream = server.wait_for("subscribe")
    stream.messages(0, "before")
    stream.control("gap", first=1, next=5, count=3, why="retention")
    stream.messages(5, "after")

    assert take(subscription, 1) == ["before"]
    with pytest.raises(GapError) as caught:
        subscription.get(DEADLINE_S)
    gap = caught.value

    assert (gap.first, gap.next, gap.count, gap.why) == (1, 5, 3, "retention")
    assert take(subscription, 1) == ["after"]
    assert subscription.gaps == 1


def test_a_gap_is_told_to_the_callback_where_there_is_one(server, client):
    gaps = []
    subscription = client.subscribe("a", on_gap=gaps.append)
    stream = server.wait_for("subscribe")
    stream.control("gap", first=0, next=5, count=None, why="drop")
    stream.messages(5, "after")

    assert take(subscription, 1) == ["after"]
    assert [(gap["first"], gap["next"], gap["count"], gap["why"]) for gap in gaps] == [(0, 5, None, "drop")]


def test_what_conflate_leaves_out_is_only_counted(server, client):
    subscription = client.subscribe("a", policy="conflate")
    stream = server.wait_for("subscribe")
    stream.control("gap", first=0, next=5, count=4, why="conflate")
    stream.messages(5, "newest")

    assert take(subscription, 1) == ["newest"]
    assert (subscription.conflated, subscription.gaps) == (4, 0)


# --- what connections do ------------------------------------------------------------------------------


def resumed(server, count=2):
    """Wait for the *count*-th subscribe and return it."""
    return server.wait_for("subscribe", count)


def test_a_lost_connection_is_resumed_after_what_was_received_is_handed_out(server, client):
    subscription = client.subscribe("a", start="earliest")
    stream = server.wait_for("subscribe")
    stream.messages(0, 0, 1, 2)
    stream.messages(3, 3)
    server.wait(lambda: len(client._channels._streams) and len(subscription._stream._items) == 2)

    server.restart()
    before = take(subscription, 4)
    reading = spawned(take, subscription, 2)
    again = resumed(server)
    again.messages(4, 4, 5)

    assert before + outcome(reading) == [0, 1, 2, 3, 4, 5]
    assert again.options["start"] == 4
    assert again.options["epoch"] == "log-1"
    assert subscription.resumed == 1


def test_a_resumed_stream_may_begin_too_early_and_nothing_is_handed_out_twice(server, client):
    subscription = client.subscribe("a")
    server.wait_for("subscribe").messages(0, 0, 1)
    assert take(subscription, 2) == [0, 1]
    server.restart()
    reading = spawned(take, subscription, 3)

    again = resumed(server)
    again.batches(sealed(0, 0), sealed(1, 1, 2, 3))
    again.messages(4, 4)

    assert outcome(reading) == [2, 3, 4]


def test_an_item_that_did_not_come_is_fetched_by_subscribing_again(server, client):
    subscription = client.subscribe("a")
    stream = server.wait_for("subscribe")
    stream.messages(0, 0)
    stream.number += 1      # an item is lost on the way
    stream.messages(2, 2)
    reading = spawned(take, subscription, 3)

    again = resumed(server)
    again.messages(1, 1, 2)

    assert outcome(reading) == [0, 1, 2]
    assert again.options["start"] == 1
    assert server.wait_for("unsubscribe").args == [f"sub-{stream.id.hex()}"]


@pytest.mark.parametrize("item", [None, 7, "text", [], [1], {}, {"n": 1}, [1, "text"], [1, b"short"], [1, 7],
                                  ["1", b""], {"control": "subscribed", "n": 1}])
def test_an_item_that_makes_no_sense_is_a_broken_stream_and_is_left(server, client, item):
    subscription = client.subscribe("a")
    stream = server.wait_for("subscribe")
    stream.send("STREAM", item)
    reading = spawned(take, subscription, 1)
    if item in ([1], {"n": 1}):     # valid, only empty
        stream.number += 1
        stream.messages(0, "next")
    else:
        resumed(server).messages(0, "next")

    assert outcome(reading) == ["next"]


def test_a_stream_that_is_silent_for_two_heartbeats_is_left_though_others_are_not(server):
    server.heartbeat_s = 0.05
    with Client(server.endpoint, timeout_s=DEADLINE_S, heartbeat_s=DEADLINE_S) as client:
        subscription = client.subscribe("a")
        reading = spawned(take, subscription, 1)

        def talk():
            client.about()
            return len(server.named("subscribe")) > 1
        server.wait(talk)
        resumed(server).messages(0, "found")

        assert outcome(reading) == ["found"]
        assert client._channels.reconnects == 0


def test_a_connection_that_is_silent_for_two_heartbeats_is_made_anew(server):
    server.heartbeat_s = 0.05
    with Client(server.endpoint, timeout_s=DEADLINE_S, heartbeat_s=DEADLINE_S) as client:
        subscription = client.subscribe("a")
        reading = spawned(take, subscription, 1)

        again = resumed(server)
        again.messages(0, "found")

        assert outcome(reading) == ["found"]
        assert client._channels.reconnects >= 1
        assert server.named("subscribe")[0].peer != again.peer


def test_heartbeats_are_sent_as_often_as_the_server_wants_them_and_keep_a_stream_alive(server):
    server.heartbeat_s = 0.2
    with Client(server.endpoint, timeout_s=DEADLINE_S, heartbeat_s=DEADLINE_S) as client:
        subscription = client.subscribe("a")
        stream = server.wait_for("subscribe")

        def beat():
            stream.send("_zpc_hb", (0,))
            return stream.beats >= 4
        server.wait(beat)

        assert len(server.named("subscribe")) == 1
        assert subscription.resumed == 0


def test_a_silent_stream_is_not_called_lost_while_its_items_wait_to_be_read(server):
    server.heartbeat_s = 0.05
    with Client(server.endpoint, timeout_s=DEADLINE_S, heartbeat_s=DEADLINE_S) as client:
        subscription = client.subscribe("a")
        stream = server.wait_for("subscribe")
        stream.messages(0, 0)
        ends = monotonic() + 0.3
        while monotonic() < ends:
            pass        # the program holds the hub: nothing is read, nothing is sent

        client._channels._check_silence(subscription._stream, ends)

        assert subscription._stream.ended is None
        assert take(subscription, 1) == [0]


@pytest.mark.parametrize("why", ["SlowConsumer", "ServerDraining"])
def test_an_end_that_loses_nothing_is_resumed_at_the_servers_word(server, client, why):
    subscription = client.subscribe("a")
    stream = server.wait_for("subscribe")
    stream.messages(0, 0)
    stream.end(why, 3)
    reading = spawned(take, subscription, 2)

    again = resumed(server)
    again.messages(3, 3)

    assert outcome(reading) == [0, 3]
    assert again.options["start"] == 3


@pytest.mark.parametrize("why, error", [("SlowConsumer", SlowConsumer), ("ServerDraining", ServerDraining)])
def test_without_reconnect_such_an_end_is_raised_with_the_place_to_resume_from(server, client, why, error):
    subscription = client.subscribe("a", reconnect=False, policy="disconnect")
    stream = server.wait_for("subscribe")
    stream.messages(0, 0)
    stream.end(why, 3)

    payloads, ended = ending(subscription)

    assert payloads == [0]
    assert type(ended) is error
    assert ended.resume == 3 == subscription.offset


def test_without_reconnect_a_lost_connection_is_raised_with_the_place_to_resume_from(server, client):
    subscription = client.subscribe("a", reconnect=False)
    server.wait_for("subscribe").messages(0, 0)
    server.wait(lambda: subscription._stream._items)
    server.stop()

    payloads, ended = ending(subscription)

    assert payloads == [0]
    assert type(ended) is ConnectionLost
    assert ended.resume == 1


def test_a_subscription_that_somebody_else_ended_is_not_opened_again(server, client):
    subscription = client.subscribe("a")
    server.wait_for("subscribe").end("Unsubscribed", 4)

    payloads, ended = ending(subscription)

    assert (payloads, type(ended), ended.resume) == ([], Unsubscribed, 4)


@pytest.mark.parametrize("name, error", [("LimitExceeded", LimitExceeded), ("InvalidTopic", InvalidTopic)])
def test_an_error_that_would_come_again_ends_the_subscription(server, client, name, error):
    subscription = client.subscribe("a")
    server.wait_for("subscribe").error(name)

    assert type(ending(subscription)[1]) is error
    assert type(ending(subscription)[1]) is error       # it stays ended


@pytest.mark.parametrize("refuse", [lambda request: request.error("EpochMismatch"),
                                    lambda request: request.greet(epoch="log-2", offset=0)])
def test_another_log_behind_the_same_address_is_told_and_never_read_from(server, client, refuse):
    subscription = client.subscribe("a")
    server.wait_for("subscribe").messages(0, 0)
    assert take(subscription, 1) == [0]
    server.on["subscribe"] = refuse

    server.restart()

    payloads, ended = ending(subscription)
    assert (payloads, type(ended)) == ([], EpochMismatch)


def test_a_gap_on_resuming_is_told_though_the_greeting_is_already_past_it(server, client):
    subscription = client.subscribe("a")
    server.wait_for("subscribe").messages(0, 0)
    assert take(subscription, 1) == [0]
    server.on["subscribe"] = lambda request: request.greet(offset=10)
    server.restart()
    reading = spawned(subscription.get, DEADLINE_S)

    again = resumed(server)
    again.control("gap", first=1, next=10, count=None, why="retention")
    again.messages(10, 10)

    gap = outcome(reading)
    assert (gap.first, gap.next) == (1, 10)
    assert take(subscription, 1) == [10]


def test_a_server_that_goes_again_and_again_is_followed(server, client):
    subscription = client.subscribe("a")
    seen = []
    for round in range(4):
        server.wait_for("subscribe", round + 1).messages(round, round)
        seen += take(subscription, 1)
        server.restart()
        if round < 3:
            reading = spawned(subscription.get, 0.5)
            server.wait_for("subscribe", round + 2)
            reading.kill()

    assert seen == [0, 1, 2, 3]
    assert [request.options["start"] for request in server.named("subscribe")] == ["new", 1, 2, 3]


# --- closing ---------------------------------------------------------------------------------------------


def test_close_from_another_greenlet_ends_a_loop_that_waits(server, client):
    subscription = client.subscribe("a")
    reading = spawned(list, subscription)
    turn()

    subscription.close()

    assert outcome(reading) == []
    assert server.wait_for("unsubscribe").args == [subscription.id]
    assert not client._channels._channels


def test_close_drops_what_was_not_handed_out(server, client):
    with client.subscribe("a") as subscription:
        server.wait_for("subscribe").messages(0, 0, 1, 2)
        assert take(subscription, 1) == [0]

    assert list(subscription) == []
    assert subscription.offset == 1


def test_close_ends_a_loop_that_is_in_the_middle_of_a_batch(server, client):
    subscription = client.subscribe("a")
    server.wait_for("subscribe").messages(0, 0, 1, 2)
    loop = iter(subscription)
    assert next(loop).payload == 0

    subscription.close()

    assert list(loop) == []
    assert subscription.offset == 1


def test_a_loop_that_was_left_does_not_repeat_what_was_then_handed_out_as_a_batch(server, client):
    subscription = client.subscribe("a")
    stream = server.wait_for("subscribe")
    stream.messages(0, 0, 1, 2)
    loop = iter(subscription)
    assert next(loop).payload == 0

    rest = next(subscription.batches())
    stream.messages(3, 3)

    assert rest.payloads == [1, 2]
    assert next(loop).payload == 3


def test_close_does_not_wait_for_a_server_that_does_not_answer(server, client, monkeypatch):
    monkeypatch.setattr("zstreampub.client.reader._GOODBYE_S", 0.05)
    server.on["unsubscribe"] = hold
    subscription = client.subscribe("a")

    with gevent.Timeout(DEADLINE_S, AssertionError("close() waits")):
        subscription.close()
        subscription.close()

    assert list(subscription) == []


def test_close_during_a_lost_connection_ends_a_loop_that_waits(server, client):
    subscription = client.subscribe("a")
    reading = spawned(list, subscription)
    turn()
    server.stop()
    server.wait(lambda: not client.is_connected)
    turn()

    subscription.close()

    assert outcome(reading) == []


def test_closing_the_client_ends_its_subscriptions(server, client):
    subscription = client.subscribe("a")
    reading = spawned(list, subscription)
    turn()

    client.close()

    assert outcome(reading) == []
    assert list(subscription) == []


def test_a_subscription_that_is_dropped_without_close_is_unsubscribed(server, client):
    subscription = client.subscribe("a")
    id = subscription.id

    del subscription
    gc.collect()

    assert server.wait_for("unsubscribe").args == [id]
    server.wait(lambda: not client._channels._channels)


def test_a_killed_reader_can_be_followed_by_another(server, client):
    subscription = client.subscribe("a")
    reading = spawned(list, subscription)
    turn()
    reading.kill()

    server.wait_for("subscribe").messages(0, "x")

    assert take(subscription, 1) == ["x"]
