"""Compression between a real client and a real server: fewer bytes on the wire, the same messages and the same log."""

import gevent
import pytest
import zerorpc
from gevent import socket
from gevent.server import StreamServer

from tests.processes import DEADLINE_S, ServerProcess
from tests.raw_peer import RawPeer
from zstreampub.client import Client
from zstreampub.compression import ExtType

READINGS = [{"station": f"W{number % 7}", "temperature": number / 8, "status": "ok"} for number in range(2000)]


class Counting:
    """A TCP proxy in this process that counts the bytes that go through it."""

    def __init__(self, endpoint):
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self._target = host, int(port)
        self.up = self.down = 0
        self._server = StreamServer(("127.0.0.1", 0), self._handle)
        self._server.start()
        self.endpoint = f"tcp://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stop()

    def _handle(self, near, _):
        far = socket.create_connection(self._target)
        gevent.joinall([gevent.spawn(self._copy, near, far, "up"), gevent.spawn(self._copy, far, near, "down")])

    def _copy(self, source, sink, way):
        try:
            while data := source.recv(65_536):
                setattr(self, way, getattr(self, way) + len(data))
                sink.sendall(data)
        except OSError:
            pass
        source.close()
        sink.close()


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path) as server:
        yield server


@pytest.mark.parametrize("consumer", [False, True])
def test_both_directions_are_compressed_and_the_log_is_plain(server, consumer):
    with Counting(server.endpoint) as proxy, Client(proxy.endpoint, compression="zstd") as client:
        client.about()
        before = proxy.up, proxy.down
        first, next = client.publish_many("a", READINGS)
        if consumer:
            with client.consume("a", "c", start="earliest", max_in_flight=2000) as consumption:
                got = [consumption.get(DEADLINE_S) for _ in range(2000)]
        else:
            got = list(client.subscribe("a", start="earliest", until="end"))
        plain_bytes = client.topics()[0]["bytes"]
        up, down = proxy.up - before[0], proxy.down - before[1]
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
