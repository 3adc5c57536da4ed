"""Redis Streams, by redis-py with hiredis: a stream is the topic, XADD publishes, XREAD reads.

A batch is a pipeline; a subscriber is a thread with a connection of its own, as blocking clients are used.
"""

import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from zstreampub.cli.benches.pace import Beat

from .actors import TOPIC, percentiles
from .payloads import BATCH, BYTES, batch_of, cycle, due_payload, finished, payload
from .stage import Failed, Missing, free_port

EVERYSEC, ALWAYS = "everysec", "always"
_FIELD = b"d"
_READ = 5000        # most messages of one XREAD
_READ_MS = 1000


class Redis:
    """A redis-server; *fsync* is its ``appendfsync``."""

    def __init__(self, folder, fsync):
        if shutil.which("redis-server") is None:
            raise Missing("redis-server is not there. On Debian or Ubuntu: sudo apt-get install redis-server")
        self.port = free_port()
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--dir", folder, "--appendonly", "yes",
             "--appendfsync", fsync, "--save", ""], stdout=subprocess.DEVNULL)
        self.pid = self._process.pid

    def end(self):
        self._process.kill()
        self._process.wait()


def start(fsync, stage):
    """Start a server; return its port when it listens."""
    server = stage.add_server(Redis(stage.folder, fsync))
    wait_for_port(server.port, "redis-server")
    return server.port


def wait_for_port(port, what):
    """Wait until something listens there."""
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise Failed(f"{what} did not come up")


def check(stage, port, messages, wrap=None):
    """Fail unless the stream has *messages*."""
    found = _connect(port).xlen(TOPIC)
    if found != messages:
        raise Failed(f"{found} messages in the stream, {messages} were answered")


def publish_singles(link, port, source, callers, messages):
    """Publish single messages, *callers* threads at a time, each with a connection."""
    clients = [_connect(port) for _ in range(callers)]
    latencies = []

    def caller(number):
        add = clients[number].xadd
        for at in range(messages // callers):
            began = perf_counter()
            add(TOPIC, {_FIELD: payload(source, number, at)})
            latencies.append(perf_counter() - began)

    link.ready()
    link.go()
    began = perf_counter()
    _in_threads(caller, callers)
    return {"began": began, "ended": perf_counter(), "latencies": percentiles(latencies)}


def publish_pipelined(link, port, source, window, messages):
    """Publish single messages, *window* in a pipeline."""
    def pipelines():
        for first in range(0, messages, window):
            yield [payload(source, 0, number) for number in range(first, min(first + window, messages))]

    return _publish(link, port, pipelines())


def publish_batches(link, port, source, batches, size=BYTES, length=BATCH):
    """Publish batches, a pipeline each."""
    cycle(source, size)
    return _publish(link, port, (batch_of(source, turn, size, length) for turn in range(batches)))


def _publish(link, port, pipelines):
    client, latencies = _connect(port), []
    link.ready()
    link.go()
    began = perf_counter()
    for payloads in pipelines:
        start = perf_counter()
        _add_all(client, payloads)
        latencies.append(perf_counter() - start)
    return {"began": began, "ended": perf_counter(), "latencies": percentiles(latencies)}


def _add_all(client, payloads):
    pipe = client.pipeline(transaction=False)
    for one in payloads:
        pipe.xadd(TOPIC, {_FIELD: one})
    pipe.execute()


def publish_steadily(link, port, rate, messages):
    """Publish at a steady rate; what is due by then goes in one pipeline."""
    client, beat = _connect(port), Beat(rate, messages)
    link.ready()
    link.go()
    began, first = beat.start(), 0
    while beat.take():
        _add_all(client, [due_payload(number, beat.due(number)) for number in range(first, beat.taken)])
        first = beat.taken
    return {"began": began, "ended": perf_counter()}


def subscribe(link, port, readers, messages, make_sink, start="new"):
    """*readers* threads, each with a connection: read *messages* and check every one. The stream is empty at first."""
    clients = [_connect(port) for _ in range(readers)]
    sinks = [make_sink() for _ in clients]
    link.ready()
    if start == "earliest":
        link.go()
    began = perf_counter()

    def read(at):
        sink, last = sinks[at], b"0-0"
        while sink.messages < messages:
            found = clients[at].xread({TOPIC: last}, count=_READ, block=_READ_MS)
            for _, entries in found:
                sink.take([fields[_FIELD] for _, fields in entries])
                last = entries[-1][0]

    _in_threads(read, readers)
    return finished(sinks, began, messages)


def _connect(port):
    import redis
    client = redis.Redis(port=port, protocol=2)
    client.ping()
    return client


def _in_threads(work, count):
    with ThreadPoolExecutor(count) as pool:
        for one in [pool.submit(work, number) for number in range(count)]:
            one.result()
