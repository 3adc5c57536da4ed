"""Filters over the wire: for a stock zerorpc client by docs/protocol.rst alone, for ours, and for the command."""

import json
import signal

import gevent
import pytest
import zerorpc

from tests.integration.commands import Command
from tests.processes import DEADLINE_S, ServerProcess, client, controls, messages, wait_until
from zstreampub import Chain
from zstreampub.client import Client
from zstreampub.errors import InvalidOption

SETTINGS = {"keepalive_s": 0.1}


@pytest.fixture
def stock(server):
    with client(server) as one:
        yield one


def orders(count):
    return [{"id": at, "status": "paid" if at % 3 else "new", "total": at} for at in range(count)]


def test_a_stock_client_gets_only_what_passes_its_filters(stock):
    stock.publish_many("stock.eu", orders(60), {"headers": {"region": "eu"}})
    stock.publish_many("stock.us", orders(60), {"headers": {"region": "us"}})
    filters = [{"where": {"payload.status": "paid", "payload.total": {"ge": 10, "lt": 20},
                          "headers.region": {"in": ["eu", "asia"]}}}, {"every": 2}]

    items = list(stock.subscribe("stock.>", {"start": "earliest", "until": "end", "filters": filters}))

    assert [item["payload"]["id"] for item in messages(items)] == [10, 13, 16, 19]
    assert {item["topic"] for item in messages(items)} == {"stock.eu"}
    assert controls(items, "gap") == []
    assert items[-1]["why"] == "until"


def test_a_stock_client_can_leave_the_payloads_at_the_server(stock):
    offset = stock.publish("bare", {"image": b"x" * 1000}, {"headers": {"name": "a.png"}, "key": "k"})

    options = {"start": offset, "until": "end", "filters": {"headers_only": True}}
    (item,) = messages(list(stock.subscribe("bare", options)))

    time = item.pop("time")
    assert item == {"topic": "bare", "offset": offset, "payload": None, "headers": {"name": "a.png"}, "key": "k",
                    "headers_only": True}
    assert isinstance(time, float)


def test_a_keepalive_tells_how_far_a_stream_is_of_which_nothing_passes(stock, server):
    stream = stock.subscribe("quiet.>", {"filters": {"where": {"payload.id": -1}}})
    assert next(stream)["control"] == "subscribed"
    with client(server) as other:
        behind = other.publish_many("quiet.a", orders(500))[1]

    assert next(item for item in stream if item["offset"] >= behind) == {"control": "keepalive", "offset": behind}


def test_a_stock_client_is_told_what_is_wrong_with_a_filter(stock):
    with pytest.raises(zerorpc.RemoteError) as caught:
        list(stock.subscribe("a", {"filters": [{"where": {"payload.x": {"like": "%"}}}]}))

    assert caught.value.name == "InvalidOption"
    assert "eq, ne, lt, le, gt, ge, in, not_in, exists" in caught.value.msg


def test_our_client_refuses_a_wrong_filter_before_it_asks(server):
    with Client(server.endpoint, timeout_s=DEADLINE_S) as ours:
        with pytest.raises(InvalidOption, match="There is no field"):
            ours.subscribe("a", filters={"where": {"playload.x": 1}})
        with pytest.raises(InvalidOption, match="not for durable consumers"):
            ours.consume("a", "filtered", filters=[{"every": 2}])


def test_our_client_gets_the_same_from_the_server_as_from_a_chain_of_its_own(server):
    filters = [{"where": {"payload.status": "paid"}}, {"min_period": 7, "by": "payload.total", "per": "key"}]
    with Client(server.endpoint, timeout_s=DEADLINE_S) as ours:
        ours.publish_many("same", orders(3000), keys=[str(at % 5) for at in range(3000)])
        with ours.subscribe("same", start="earliest", until="end", filters=filters) as stream:
            sifted = list(stream)
        with ours.subscribe("same", start="earliest", until="end") as stream:
            chained = [message for message in map(Chain(filters), stream) if message is not None]

    assert sifted == chained
    assert 300 < len(sifted) < 1100


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_filtered_stream_resumes_where_it_was_and_not_before_what_was_left_out(tmp_path, number):
    filters = {"where": {"payload.status": "new", "payload.id": {"lt": 4}}}
    server = ServerProcess(tmp_path, keepalive_s=0.05)
    try:
        with Client(server.endpoint, timeout_s=DEADLINE_S) as ours:
            stream = ours.subscribe("long", filters=filters)
            behind = ours.publish_many("long", orders(2000))[1]
            got = [stream.get(DEADLINE_S).payload["id"], stream.get(DEADLINE_S).payload["id"]]
            reading = gevent.spawn(stream.get, DEADLINE_S)
            wait_until(lambda: stream.offset >= behind, lambda: f"{stream.offset} of {behind}")
            server.terminate(number)
            server.wait()
            server = server.again()
            ours.publish_many("long", orders(2))
            got.append(reading.get(timeout=DEADLINE_S).payload["id"])
            stream.close()
            described = ours.subscriptions()
    finally:
        server.kill()

    assert got == [0, 3, 0]
    assert stream.resumed == 1 and stream.gaps == 0
    assert described == []


def test_the_command_filters_by_comparisons_and_by_json(server):
    with Client(server.endpoint, timeout_s=DEADLINE_S) as ours:
        ours.publish_many("cli.eu", orders(40))

    with Command("subscribe", "cli.>", "--start", "earliest", "--until", "end", "--filter", "payload.total >= 10",
                 "--filter", "payload.status=paid", "--filter", '{"every": 5}', address=server.endpoint) as command:
        lines = command.rest("out")
        assert command.wait() == 0

    assert [json.loads(line)["payload"]["id"] for line in lines] == [10, 17, 25, 32]
