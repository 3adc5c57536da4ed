"""Batches that are not what their publisher packed: asked for again, then told at their place."""

import pytest

from tests.unit.client.fake_server import DEADLINE_S, outcome, sealed, spawned
from tests.unit.client.members import acked, joined, take
from zstreampub.client import Client
from zstreampub.errors import StoreCorrupt
from zstreampub.message import Batch
from zstreampub.payload import Undecodable


def damaged(first, count=2):
    """Return a batch that has lost a bit since it was packed."""
    return Batch.parse(sealed(first, *[b"MARK"] * count).packed.replace(b"MARK", b"MARX", 1))


def test_what_is_whole_when_it_is_sent_again_was_damaged_on_the_wire(server, client):
    subscription = client.subscribe("a", start=0)
    server.wait_for("subscribe").batches(sealed(0, "x"), damaged(1), sealed(3, "z"))
    reading = spawned(lambda: [subscription.get(DEADLINE_S).payload for _ in range(4)])

    again = server.wait_for("subscribe", 2)
    again.batches(sealed(0, "x"), sealed(1, "y", "y"), sealed(3, "z"))

    assert outcome(reading) == ["x", "y", "y", "z"]
    assert subscription.resumed == 1


def test_what_is_damaged_again_ends_the_subscription_behind_all_that_was_before_it(server, client):
    subscription = client.subscribe("a", start=0)
    item = sealed(0, "x"), damaged(1), sealed(3, "z")
    for time in (1, 2):
        spawned(lambda time=time: server.wait_for("subscribe", time).batches(*item))

    assert subscription.get(DEADLINE_S).payload == "x"
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match=r"messages in \[1, 3\) do not fit") as told:
            subscription.get(DEADLINE_S)

    assert (told.value.offset, told.value.next, told.value.resume) == (1, 3, 1)
    server.wait_for("unsubscribe", 2)


def test_damage_is_told_also_if_the_end_of_the_stream_came_with_it(server, client):
    subscription = client.subscribe("a", start=0, until=4)

    def send(time):
        stream = server.wait_for("subscribe", time)
        stream.batches(sealed(0, "x"), damaged(1), sealed(3, "z"))
        stream.end("until", 4)

    send(1)
    client.about()      # its answer comes behind the end
    spawned(send, 2)

    assert subscription.get(DEADLINE_S).payload == "x"
    with pytest.raises(StoreCorrupt):
        subscription.get(DEADLINE_S)


def test_each_damaged_place_is_asked_for_again_once(server, client):
    subscription = client.subscribe("a", start=0)
    reading = spawned(lambda: [subscription.get(DEADLINE_S).payload for _ in range(4)])

    server.wait_for("subscribe").batches(damaged(0))
    server.wait_for("subscribe", 2).batches(sealed(0, "x", "x"), damaged(2))
    server.wait_for("subscribe", 3).batches(sealed(2, "y", "y"))

    assert outcome(reading) == ["x", "x", "y", "y"]


def test_without_verify_nobody_looks(server):
    with Client(server.endpoint, timeout_s=DEADLINE_S, verify=False) as client:
        subscription = client.subscribe("a", start=0)
        server.wait_for("subscribe").batches(damaged(0))

        assert subscription.get(DEADLINE_S).payload == b"MARX"


def test_a_member_is_given_what_is_damaged_again_as_undecodable_and_goes_on(server, client):
    consumption, _ = joined(server, client, sealed(0, "x"), damaged(1), sealed(3, "z"))

    server.wait_for("subscribe", 2).hand_out(2, sealed(0, "x"), damaged(1), sealed(3, "z"), delivery=2)
    deliveries = take(consumption, 4)
    for delivery in deliveries:
        delivery.ack().get(timeout=DEADLINE_S)

    assert [delivery.offset for delivery in deliveries] == acked(server) == [0, 1, 2, 3]
    assert [type(delivery.payload) is Undecodable for delivery in deliveries] == [False, True, True, False]
    assert "does not fit its checksum" in deliveries[1].payload.reason


def test_a_member_is_ended_where_the_damage_cannot_even_be_counted(server, client):
    packed = bytearray(sealed(1, b"x", b"y").packed)
    packed[4] = 0xff
    consumption, stream = joined(server, client, sealed(0, "x"))
    assert take(consumption, 1)[0].payload == "x"
    stream.hand_out(1, Batch.parse(bytes(packed)))
    server.wait_for("subscribe", 2).hand_out(2, Batch.parse(bytes(packed)))

    with pytest.raises(StoreCorrupt):
        consumption.get(DEADLINE_S)
