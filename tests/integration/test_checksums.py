"""Checksums from end to end: one flipped bit, on disk or on the wire, is noticed by whoever reads."""

import pytest

from tests.processes import DEADLINE_S, ServerProcess, client, messages, wait_until
from tests.wire_tap import WireTap
from zstreampub.broker import Broker
from zstreampub.client import Client
from zstreampub.errors import StoreCorrupt, UndecodablePayload
from zstreampub.payload import Undecodable

MARK = b"the bit that will flip"


def flipped(data):
    """Return *data* with a bit of the mark flipped, wherever it is found."""
    return data.replace(MARK, MARK[:-1] + bytes((MARK[-1] ^ 1,)))


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path) as server:
        yield server


@pytest.fixture
def damaged(tmp_path):
    """A store of which the batch [1, 4) is damaged, not served at the moment: returns where."""
    with Broker.open(f"lmdb:{tmp_path / 'store'}") as broker:
        broker.publish("a", b"before")
        broker.publish_many("a", [b"x", MARK, b"y"])
        broker.publish("a", b"after")
    path = tmp_path / "store" / "data.mdb"
    whole = path.read_bytes()
    assert whole.count(MARK) >= 1
    path.write_bytes(flipped(whole))
    return tmp_path


# --- on disk ---------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["earliest", 1, 2])
def test_a_subscriber_gets_what_is_before_and_is_told_where_the_store_is_damaged(damaged, start):
    with ServerProcess(damaged) as server, Client(server.endpoint) as reader:
        subscription = reader.subscribe("a", start=start)
        before = [subscription.get(DEADLINE_S).payload] if start == "earliest" else []
        with pytest.raises(StoreCorrupt, match="The server's store is damaged") as told:
            subscription.get(DEADLINE_S)
        after = reader.subscribe("a", start=told.value.next, until="end")

        assert before == [b"before"][:len(before)]
        assert (told.value.offset, told.value.next) == (2 if start == 2 else 1, 4)
        assert told.value.resume == told.value.offset
        assert [message.payload for message in after] == [b"after"]


@pytest.mark.parametrize("max_in_flight", [2, 256])
def test_a_damaged_message_of_a_consumer_reaches_on_exception_and_the_others_go_on(damaged, max_in_flight):
    worked, failed = [], []

    with ServerProcess(damaged) as server, Client(server.endpoint) as reader:
        with reader.consume("a", "c", start="earliest", max_in_flight=max_in_flight) as consumption:
            def work(delivery):
                worked.append(delivery.payload)
                if len(failed) == 3 and len(worked) == 2:
                    consumption.stop()

            def judge(error, delivery):
                failed.append((type(error), error.offset))
                if len(failed) == 3 and len(worked) == 2:
                    consumption.stop()
            consumption.run(work, on_exception=judge)
        wait_until(lambda: len(reader.dead("c")) == 3, "the dead letters")

    assert worked == [b"before", b"after"]
    assert failed == [(UndecodablePayload, 1), (UndecodablePayload, 2), (UndecodablePayload, 3)]


def test_stock_clients_see_what_is_damaged_marked_so(damaged):
    with ServerProcess(damaged) as server, client(server) as stock, Client(server.endpoint) as ours:
        streamed = messages(stock.subscribe("a", {"start": "earliest", "until": "end"}))
        stock.create_consumer("c", "a", {"start": "earliest"})
        fetched = stock.fetch("c", {"count": 5})
        single = stock.get(2)
        payload = ours.get(2).payload

    for seen in (streamed, fetched):
        assert [message.get("error") for message in seen] == [None, *["StoreCorrupt"] * 3, None]
        assert [message["offset"] for message in seen] == [0, 1, 2, 3, 4]
        assert (seen[0]["payload"], seen[4]["payload"]) == (b"before", b"after")
    assert single["error"] == payload.error == "StoreCorrupt"
    assert type(payload) is Undecodable and flipped(MARK) in payload.raw


def test_an_embedded_reader_is_told_too(damaged):
    with Broker.open(f"lmdb:{damaged / 'store'}") as broker:
        read = list(broker.subscribe("a", start="earliest", until="end"))
        broker.consumers.create("c", "a", start="earliest")
        fetched = broker.consumers.fetch("c", 5)
        single = broker.get(3)

    for seen in (read, fetched):
        assert [type(message.payload) is Undecodable for message in seen] == [False, True, True, True, False]
    assert "does not fit its checksum" in single.payload.reason


# --- on the wire -----------------------------------------------------------------------------


def test_what_was_damaged_on_the_wire_is_sent_again(server):
    with WireTap(server.endpoint) as wire, Client(wire.endpoint) as reader:
        reader.publish_many("a", [b"x", MARK, b"y"])
        subscription = reader.subscribe("a", start="earliest")

        def once(data):
            if MARK in data:
                wire.damage = bytes
            return flipped(data)
        wire.damage = once
        got = [subscription.get(DEADLINE_S).payload for _ in range(3)]

    assert got == [b"x", MARK, b"y"]


def test_without_verify_what_is_damaged_is_handed_out(server):
    with WireTap(server.endpoint) as wire, Client(wire.endpoint, verify=False) as reader:
        reader.publish("a", MARK)
        wire.damage = flipped

        message = reader.subscribe("a", start="earliest").get(DEADLINE_S)

    assert message.payload == flipped(MARK)
