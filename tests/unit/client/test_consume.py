"""Members of consumers: what is handed out is ours, and what is said of it arrives, whatever the connection does."""

import logging
from time import monotonic

import gevent
import pytest

from tests.unit.client.fake_server import DEADLINE_S, outcome, sealed, spawned, turn
from tests.unit.client.members import hold, joined, payloads, said, take
from zstreampub.client import Client
from zstreampub.client.stream import WINDOW
from zstreampub.errors import (
    ConnectionLost,
    ConsumerConflict,
    ConsumerDeleted,
    EpochMismatch,
    GapError,
    InvalidOption,
    RequestTimeout,
    SubscriptionEnded,
)
from zstreampub.message import Batch
from zstreampub.payload import Undecodable

# --- joining --------------------------------------------------------------------------------------


def test_a_member_has_joined_when_consume_returns(server, client):
    consumption = client.consume(["a.*", "b"], "billing", start="earliest", ack_wait_s=5, backoff_s=[1, 10],
                                 max_in_flight=7, member="worker-1", name="me")

    assert (consumption.consumer, consumption.member, consumption.max_in_flight) == ("billing", "worker-1", 256)
    assert server.named("subscribe")[0].args == [["a.*", "b"], {
        "consumer": "billing", "member": "worker-1", "max_in_flight": 7, "name": "me", "start": "earliest",
        "ack_wait_s": 5, "backoff_s": [1, 10], "format": "batch"}]


def test_members_without_a_name_have_different_ones(server, client):
    members = {client.consume(None, "c").member for _ in range(3)}

    assert len(members) == 3


def test_a_setting_that_differs_raises_at_the_call(server, client):
    server.on["subscribe"] = lambda request: request.error("ConsumerConflict", "ack_wait_s is 30, not 5.")

    with pytest.raises(ConsumerConflict, match="is 30"):
        client.consume("a", "c", ack_wait_s=5)

    assert not client._channels._streams


def test_a_consumer_has_a_name(server, client):
    with pytest.raises(InvalidOption, match="consumer's name"):
        client.consume("billing")


# --- reading --------------------------------------------------------------------------------------


def test_deliveries_have_what_messages_have_and_their_number_and_token(server, client):
    batch = Batch.of("a", ["x"], keys=["k"], headers=[{"h": 1}])
    batch.seal(7, 1_000_000)
    consumption, stream = joined(server, client)
    stream.hand_out(99, batch, delivery=3)

    [delivery] = take(consumption, 1)

    assert delivery.as_map() == {"topic": "a", "offset": 7, "time": 1.0, "payload": "x", "key": "k",
                                 "headers": {"h": 1}, "delivery": 3, "token": 99}


def test_a_map_holds_for_the_batches_after_it(server, client):
    consumption, stream = joined(server, client)
    first, second = ({"token": token, "delivery": token, "ack_wait_s": 30.0} for token in (1, 2))
    stream.send("STREAM", [1, first, sealed(0, "x").packed, sealed(5, "y").packed, second, sealed(3, "z").packed])

    deliveries = take(consumption, 3)

    assert [(one.offset, one.token, one.delivery) for one in deliveries] == [(0, 1, 1), (5, 1, 1), (3, 2, 2)]


def test_a_message_may_come_again_below_the_others(server, client):
    consumption, stream = joined(server, client, sealed(5, 5, 6))
    stream.hand_out(2, sealed(1, 1), delivery=2)

    assert payloads(take(consumption, 3)) == [5, 6, 1]


def test_several_greenlets_share_the_messages_and_each_goes_to_one(server, client):
    consumption, stream = joined(server, client)
    got: list = [[] for _ in range(5)]

    def work(mine):
        for delivery in consumption:
            mine.append(delivery.payload)
            turn()
    workers = [spawned(work, mine) for mine in got]
    for first in range(0, 30, 3):
        stream.hand_out(first, sealed(first, first, first + 1, first + 2))
    server.wait(lambda: sum(map(len, got)) == 30)
    consumption.close()

    assert [outcome(worker) for worker in workers] == [None] * 5
    assert sorted(payload for mine in got for payload in mine) == list(range(30))
    assert all(got)


def test_get_raises_when_nothing_comes_and_after_the_end(server, client):
    consumption, _ = joined(server, client)

    with pytest.raises(RequestTimeout):
        consumption.get(0.02)
    consumption.close()

    with pytest.raises(SubscriptionEnded):
        consumption.get(DEADLINE_S)
    assert list(consumption) == []


def test_a_payload_that_cannot_be_decoded_reaches_the_reader_and_can_be_acknowledged(server, client):
    consumption, _ = joined(server, client, Batch.assemble("a", [b"\xc1\x00"], {}, 0, 1_700_000_000_000_000))

    [delivery] = take(consumption, 1)
    delivery.ack().get(timeout=DEADLINE_S)

    assert isinstance(delivery.payload, Undecodable)
    assert said(server) == [[[[0, 1, 1]], {}]]


def test_credit_goes_back_for_items_that_are_handed_out_and_not_for_those_that_wait(server, client):
    consumption, stream = joined(server, client)
    for at in range(WINDOW - 2):
        stream.hand_out(at, sealed(at, at))
    server.wait(lambda: len(consumption._arrived) == WINDOW - 2)
    turn()
    assert stream.grants == [WINDOW]

    take(consumption, WINDOW // 4 - 1)      # and the greeting

    server.wait(lambda: stream.grants[1:] == [WINDOW // 4])


def test_a_program_that_never_waits_still_lets_its_acks_leave(server, client):
    consumption, _ = joined(server, client, sealed(0, *range(5)))

    for delivery in consumption:
        delivery.ack()
        ends = monotonic() + 0.011
        while monotonic() < ends:       # busy: no other greenlet gets a turn
            pass
        if delivery.offset == 4:
            break

    assert len(server.named("ack")) > 1


# --- a lost connection ----------------------------------------------------------------------------


def rejoined(server, count=2):
    return server.wait_for("subscribe", count)


def test_a_lost_connection_is_rejoined_at_once_with_all_that_is_held(server, client):
    consumption, stream = joined(server, client, sealed(0, 0, 1, 2), member="me", max_in_flight=9, ack_wait_s=5)
    stream.hand_out(2, sealed(8, 8))
    done, _ = take(consumption, 2)
    done.ack().get(timeout=DEADLINE_S)
    server.wait(lambda: 8 in consumption._held)

    server.restart()

    # Nobody reads meanwhile: it is not the reader that rejoins.
    assert rejoined(server).args == [None, {"consumer": "c", "member": "me", "max_in_flight": 9, "format": "batch",
                                            "held": [[1, 1], [2, 1], [8, 2]]}]
    assert payloads(take(consumption, 2)) == [2, 8]
    assert consumption.resumed == 1
    assert server.wait_for("unsubscribe").args == [f"sub-{stream.id.hex()}"]    # what was on its way to it comes again


def test_what_waits_here_and_was_not_kept_is_dropped_and_may_come_again(server, client):
    consumption, _ = joined(server, client, sealed(0, 0, 1, 2, 3))
    take(consumption, 1)
    server.on["subscribe"] = lambda request: request.greet(consumer="c", max_in_flight=9, ack_wait_s=30.0,
                                                           held=[[0, 1], [2, 1]])
    server.restart()
    again = rejoined(server)
    server.wait(lambda: len(consumption._held) == 2)

    again.hand_out(5, sealed(1, "again"), delivery=2)
    got = take(consumption, 2)

    assert [(one.offset, one.payload, one.token) for one in got] == [(2, 2, 1), (1, "again", 5)]


def test_a_message_that_comes_again_while_it_waits_here_is_handed_out_once(server, client):
    consumption, stream = joined(server, client, sealed(0, 0, 1))
    stream.hand_out(2, sealed(1, "again"), delivery=2)
    server.wait(lambda: len(consumption._arrived) == 2)

    got = take(consumption, 2)

    assert [(one.offset, one.token) for one in got] == [(0, 1), (1, 2)]
    with pytest.raises(RequestTimeout):
        consumption.get(0.02)


def test_acks_without_an_answer_are_sent_again_with_the_same_tokens_and_held_until_then(server, client):
    server.on["ack"] = hold
    consumption, _ = joined(server, client, sealed(0, 0, 1), token=7)
    future = take(consumption, 2)[0].ack()
    server.wait_for("ack")

    server.restart()
    server.wait_for("ack", 2).ok(1)
    future.get(timeout=DEADLINE_S)

    assert said(server) == [[[[0, 1, 7]], {}]] * 2
    assert rejoined(server).options["held"] == [[0, 7], [1, 7]]
    assert [request.name for request in server.requests if request.name in ("ack", "subscribe")] == [
        "subscribe", "ack", "ack", "subscribe"]


def test_a_nack_that_was_sent_twice_may_find_the_message_gone(server, client):
    server.on["nack"] = hold
    consumption, _ = joined(server, client, sealed(0, 0))
    future = take(consumption, 1)[0].nack()
    server.wait_for("nack")

    server.restart()
    server.wait_for("nack", 2).error("StaleDelivery")

    assert future.get(timeout=DEADLINE_S) is None


def test_what_is_said_while_there_is_no_connection_is_said_afterwards(server, client):
    consumption, _ = joined(server, client, sealed(0, 0, 1))
    deliveries = take(consumption, 2)
    server.stop()
    server.wait(lambda: not client.is_connected)
    futures = [delivery.ack() for delivery in deliveries]

    server.start()

    for future in futures:
        future.get(timeout=DEADLINE_S)
    assert said(server) == [[[[0, 2, 1]], {}]]


def test_a_broken_stream_is_left_and_joined_anew(server, client):
    consumption, stream = joined(server, client, sealed(0, 0))
    take(consumption, 1)
    stream.send("STREAM", [2, sealed(1, 1).packed])     # no token

    again = rejoined(server)
    again.hand_out(2, sealed(1, 1))

    assert payloads(take(consumption, 1)) == [1]
    assert again.options["held"] == [[0, 1]]


@pytest.mark.parametrize("part", [{}, {"token": "x", "delivery": 1}, {"token": 1, "delivery": None}, 7, "text",
                                  {"token": 1, "delivery": 1, "ack_wait_s": "long"}])
def test_an_item_that_makes_no_sense_is_a_broken_stream(server, client, part):
    consumption, stream = joined(server, client)
    stream.send("STREAM", [1, part, sealed(1, 1).packed])

    rejoined(server).hand_out(2, sealed(1, 1))

    assert payloads(take(consumption, 1)) == [1]


def test_another_log_ends_it(server, client):
    consumption, _ = joined(server, client, sealed(0, 0))
    server.on["subscribe"] = lambda request: request.greet(epoch="log-2", consumer="c", held=[])
    server.restart()

    error = outcome(spawned(lambda: take(consumption, 2)))

    assert isinstance(error, EpochMismatch)


def test_a_consumer_that_is_deleted_ends_its_members_and_voids_what_waits(server, client):
    consumption, stream = joined(server, client, sealed(0, 0, 1))
    take(consumption, 1)
    stream.end("ConsumerDeleted", 2)
    server.wait(lambda: consumption._outcome)

    for _ in range(2):
        with pytest.raises(ConsumerDeleted):
            consumption.get(DEADLINE_S)


def test_without_reconnect_a_lost_connection_is_raised(server, client):
    consumption, _ = joined(server, client, reconnect=False)
    server.restart()

    assert isinstance(outcome(spawned(consumption.get)), ConnectionLost)


# --- leases ---------------------------------------------------------------------------------------


def test_what_waits_here_is_renewed_while_the_program_goes_on_taking_messages(server, client):
    server.ack_wait_s = 0.2
    consumption, stream = joined(server, client)
    stream.hand_out(1, sealed(0, *range(4)), ack_wait_s=0.2)
    take(consumption, 1)

    extended = server.wait_for("extend").args
    server.wait(lambda: next(iter(consumption._held.values())).ends_at > monotonic() + 0.1)
    rest = take(consumption, 3)

    assert extended == ["c", [[1, 4, 1]], 0.2]      # not what the program has in hand
    assert payloads(rest) == [1, 2, 3]


def test_what_another_thread_has_taken_ahead_is_renewed_until_it_is_handed_on(server, client):
    server.ack_wait_s = 0.2
    consumption, stream = joined(server, client)
    stream.hand_out(1, sealed(0, *range(3)), ack_wait_s=0.2)
    ahead = [consumption.take_ahead() for _ in range(3)]

    consumption.hand_on(ahead[0])
    extended = server.wait_for("extend").args

    assert extended == ["c", [[1, 3, 1]], 0.2]
    assert consumption.is_ours(ahead[1])


def test_what_another_thread_has_taken_ahead_runs_out_when_the_program_takes_nothing(server, client):
    server.ack_wait_s = 0.1
    consumption, stream = joined(server, client)
    stream.hand_out(1, sealed(0, 0), ack_wait_s=0.1)
    ahead = consumption.take_ahead()

    gevent.sleep(0.2)

    assert not consumption.is_ours(ahead)
    assert not server.named("extend")


def test_a_delivery_that_has_come_again_is_not_ours_any_more(server, client):
    consumption, stream = joined(server, client)
    stream.hand_out(1, sealed(0, 0))
    first, = take(consumption, 1)

    stream.hand_out(2, sealed(0, 0))
    second, = take(consumption, 1)

    assert (consumption.is_ours(first), consumption.is_ours(second)) == (False, True)


def test_what_waits_here_runs_out_when_the_program_takes_nothing(server, client):
    server.ack_wait_s = 0.1
    consumption, stream = joined(server, client)
    stream.hand_out(1, sealed(0, 0), ack_wait_s=0.1)
    server.wait(lambda: 0 in consumption._held)

    gevent.sleep(0.2)

    with pytest.raises(RequestTimeout):
        consumption.get(0.01)
    assert not server.named("extend")


def test_a_callback_keeps_its_message_however_long_it_takes(server, client):
    server.ack_wait_s = 0.1
    consumption, stream = joined(server, client)
    stream.hand_out(1, sealed(0, 0), ack_wait_s=0.1)
    done = gevent.event.Event()
    running = spawned(consumption.run, lambda delivery: done.wait())

    server.wait_for("extend", 3)
    done.set()
    server.wait_for("ack")
    consumption.close()
    outcome(running)

    assert {str(args) for args in said(server, "extend")} == {"[[[0, 1, 1]], 0.1]"}


def test_a_callback_may_be_left_to_the_ack_wait(server, client):
    server.ack_wait_s = 0.1
    consumption, stream = joined(server, client)
    stream.hand_out(1, sealed(0, 0), ack_wait_s=0.1)
    running = spawned(consumption.run, lambda delivery: gevent.sleep(0.25), keep_extending=False)

    server.wait_for("ack")
    consumption.close()
    outcome(running)

    assert not server.named("extend")


# --- controls -------------------------------------------------------------------------------------


def test_a_gap_is_raised_once_at_its_place_and_reading_goes_on(server, client):
    consumption, stream = joined(server, client, sealed(0, "before"))
    stream.control("gap", first=1, next=5, count=4, why="retention")
    stream.hand_out(2, sealed(5, "after"))

    assert payloads(take(consumption, 1)) == ["before"]
    with pytest.raises(GapError) as caught:
        consumption.get(DEADLINE_S)

    assert (caught.value.first, caught.value.next, caught.value.why) == (1, 5, "retention")
    assert payloads(take(consumption, 1)) == ["after"]


def test_gaps_and_controls_are_told_at_their_place_where_somebody_wants_them(server, client):
    told = []
    consumption, stream = joined(server, client, on_gap=told.append, on_control=told.append)
    stream.control("gap", first=1, next=5, count=4, why="expired")
    stream.control("paused", why="dead letters: 10000")
    stream.hand_out(2, sealed(5, "after"))

    assert payloads(take(consumption, 1)) == ["after"]
    assert [one["control"] for one in told] == ["subscribed", "gap", "paused"]


def test_a_pause_that_nobody_asks_for_is_logged(server, client, caplog):
    caplog.set_level(logging.WARNING)
    consumption, stream = joined(server, client)
    stream.control("paused", why="dead letters: 10000")
    stream.hand_out(2, sealed(5, "after"))
    take(consumption, 1)

    assert "'c' is paused: dead letters: 10000" in caplog.text


def test_joining_a_paused_consumer_is_logged(server, client, caplog):
    server.on["subscribe"] = lambda request: request.greet(consumer="c", held=[], paused="by request")

    client.consume("a", "c")

    assert "'c' is paused: by request" in caplog.text


# --- the end --------------------------------------------------------------------------------------


def test_close_gives_back_what_nobody_has_looked_at_waits_for_acks_and_then_leaves(server, client):
    consumption, _ = joined(server, client, sealed(0, 0, 1, 2, 3))
    future = take(consumption, 2)[0].ack()

    consumption.close()

    assert future.successful()
    ack, nack, leave = server.requests[-3:]
    assert (ack.name, nack.name, leave.name) == ("ack", "nack", "unsubscribe")
    assert nack.args == ["c", [[2, 4, nack.args[1][0][2]]], {"unseen": True, "member": consumption.id}]
    assert list(consumption) == []


def test_close_gives_back_what_was_sent_before_the_server_knew_of_it(server, client):
    consumption, stream = joined(server, client)

    def nack(request):
        if len(server.named("nack")) == 1:
            stream.hand_out(7, sealed(0, 0, 1, 2))
        request.ok(0)

    server.do_nack = nack
    consumption.close()

    options = {"unseen": True, "member": consumption.id}
    assert [nack.args for nack in server.named("nack")] == [["c", [], options], ["c", [[0, 3, 7]], options]]
    assert [request.name for request in server.requests][-1] == "unsubscribe"
    assert len(server.named("subscribe")) == 1


def test_close_ends_loops_that_wait_and_does_not_wait_for_ever(server, client, monkeypatch):
    monkeypatch.setattr("zstreampub.client.consumption._GOODBYE_S", 0.02)
    server.on["ack"] = hold
    consumption, _ = joined(server, client, sealed(0, 0))
    take(consumption, 1)[0].ack()
    loops = [spawned(list, consumption) for _ in range(3)]
    turn()

    consumption.close()

    assert [outcome(loop) for loop in loops] == [[], [], []]
    server.wait_for("unsubscribe")


def test_a_member_that_nobody_holds_any_more_leaves_after_its_acks(server, client):
    def greet(request):
        server.do_subscribe(request)
        request.hand_out(1, sealed(0, 0, 1))
    server.on["subscribe"] = greet
    for delivery in client.consume("a", "c"):   # noqa: B007
        break
    turn()
    assert not server.named("unsubscribe")      # the message is not settled

    delivery.ack()
    del delivery

    server.wait_for("unsubscribe")
    assert [request.name for request in server.requests][-2:] == ["ack", "unsubscribe"]


def test_a_closed_client_ends_its_members(server, client):
    consumption, _ = joined(server, client, sealed(0, 0))
    [delivery] = take(consumption, 1)
    waiting = spawned(list, consumption)
    turn()

    client.close()

    assert outcome(waiting) == []
    assert isinstance(outcome(spawned(delivery.ack().get)), ConnectionLost)


def test_the_client_of_a_member_may_be_used_for_all_else(server):
    with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        consumption, _ = joined(server, client, sealed(0, 0))
        assert client.publish("a", 1) == 0
        take(consumption, 1)[0].ack().get(timeout=DEADLINE_S)
