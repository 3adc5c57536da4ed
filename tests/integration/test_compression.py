"""Compression between a real client and a real server: fewer bytes on the wire, the same messages and the same log."""

import pytest
import zerorpc

from tests.processes import DEADLINE_S, ServerProcess
from tests.raw_peer import RawPeer
from tests.wire_tap import WireTap
from zstreampub.client import Client
from zstreampub.compression import ExtType

READINGS = [{"station": f"W{number % 7}", "temperature": number / 8, "status": "ok"} for number in range(2000)]


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path) as server:
        yield server


@pytest.mark.parametrize("consumer", [False, True])
def test_both_directions_are_compressed_and_the_log_is_plain(server, consumer):
    with WireTap(server.endpoint) as wire, Client(wire.endpoint, compression="zstd") as client:
        client.about()
        before = wire.up_bytes, wire.down_bytes
        first, next = client.publish_many("a", READINGS)
        if consumer:
            with client.consume("a", "c", start="earliest", max_in_flight=2000) as consumption:
                got = [consumption.get(DEADLINE_S) for _ in range(2000)]
        else:
            got = list(client.subscribe("a", start="earliest", until="end"))
        plain_bytes = client.topics()[0]["bytes"]
        up, down = wire.up_bytes - before[0], wire.down_bytes - before[1]
    with Client(server.endpoint) as plain:
        same = list(plain.subscribe("a", start="earliest", until="end"))

    assert [one.payload for one in got] == [one.payload for one in same] == READINGS
    assert (first, next) == (0, 2000)
    assert plain_bytes > 80_000
    assert up < plain_bytes / 3 and down < plain_bytes / 3


def test_only_who_asks_for_it_gets_it(server):
    options = {"start": "earliest", "until": "end", "format": "batch"}
    with Client(server.endpoint) as client:
        client.publish_many("a", READINGS)

    parts = []
    with RawPeer(server.endpoint) as peer:
        for wanted in ({"compression": ["br", "zstd"]}, {"compression": ["br"]}, {}):
            channel = peer.open_stream("a", {**options, **wanted})
            peer.event("_zpc_more", [10], response_to=channel)
            _, item = peer.answer_to(channel)
            parts.append(type(item[1]))
    stock = zerorpc.Client(server.endpoint, timeout=DEADLINE_S, heartbeat=5)
    about = stock.about()
    stock.close()

    assert parts == [ExtType, bytes, bytes]
    assert about["compressions"] == ["zstd"]
