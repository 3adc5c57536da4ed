"""Content types over a real server: our readers get values, stock clients bytes and the header."""

import pytest
import zerorpc

from tests.processes import DEADLINE_S, ServerProcess, wait_until
from zstreampub.client import Client
from zstreampub.errors import UndecodablePayload
from zstreampub.payload import Undecodable

READING = {"station": "W3", "t": 21.5}
JSON = {"content-type": "application/json"}


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        yield client


def test_every_way_to_read_decodes_what_every_way_to_publish_wrote(client):
    with client.producer() as producer:
        producer.publish("a", READING, content_type="json")
        producer.publish_many("a", [READING, READING], content_type="cbor", headers={"of": "x"})
    client.publish("a", READING, content_type="json", key="k")
    client.publish("a", READING, content_type="json", expected_next=4)
    client.publish_many("a", [READING], content_type="cbor", expected_next=5)
    client.create_consumer("c", "a", start="earliest")

    streamed = list(client.subscribe("a", start="earliest", until="end"))
    fetched = client.fetch("c", 2)
    with client.consume(consumer="c") as consumption:
        consumed = [consumption.get(DEADLINE_S) for _ in range(4)]

    assert [message.payload for message in streamed + fetched + consumed] == [READING] * 12
    assert [message.content_type for message in streamed] == [
        f"application/{name}" for name in ("json", "cbor", "cbor", "json", "json", "cbor")]
    assert client.get(0).payload == client.last("a", "k").payload == client.last("a").payload == READING


def test_a_stock_client_sees_bytes_and_the_header_on_every_way(server, client):
    client.publish("a", [1], content_type="json")
    client.create_consumer("c", "a", start="earliest")
    stock = zerorpc.Client(server.endpoint, timeout=DEADLINE_S, heartbeat=5)

    seen = [item for item in stock.subscribe("a", {"start": "earliest", "until": "end"}) if "control" not in item]
    seen += [stock.get(0), stock.last("a"), stock.peek("c"), *stock.browse("c"), *stock.fetch("c")]
    stock.reject("c", [0])
    seen += stock.dead("c")
    stock.publish("b", b'{"a": 1}', {"headers": JSON})
    stock.close()

    assert [message["payload"] for message in seen] == [b"[1]"] * 7
    assert all(message["headers"].items() >= JSON.items() for message in seen)
    assert client.last("b").payload == {"a": 1}


def test_what_does_not_decode_reaches_on_exception_with_its_offset_and_the_reader_goes_on(client):
    client.publish_many("a", [b"{", b"[1]", b"["], headers=JSON)
    worked, failed = [], []

    with client.consume("a", "c", start="earliest") as consumption:
        def work(delivery):
            worked.append((delivery.offset, delivery.payload))
            if len(failed) == 2:
                consumption.stop()

        def judge(error, delivery):
            failed.append((type(error), error.offset, error.topic, error.raw, error.why))

        client.publish("a", "the last")
        consumption.run(work, on_exception=judge)

    assert worked == [(1, [1]), (3, "the last")]
    assert [one[:4] for one in failed] == [(UndecodablePayload, 0, "a", b"{"), (UndecodablePayload, 2, "a", b"[")]
    assert all("application/json" in one[4] for one in failed)
    wait_until(lambda: [letter["payload"] for letter in client.dead("c")] == [b"{", b"["], "the dead letters")


def test_a_plain_loop_gets_the_undecodable_and_goes_on(client):
    client.publish_many("a", [b"{", b"[1]"], headers=JSON)

    broken, whole = client.subscribe("a", start="earliest", until="end")

    assert type(broken.payload) is type(client.get(0).payload) is Undecodable
    assert (broken.offset, broken.payload.raw, whole.payload) == (0, b"{", [1])
