"""NATS JetStream, by nats-py: a stream with file storage, and ordered push consumers.

Its server (2.9) writes to the page cache before it answers and syncs every two minutes. A batch is 1,000 messages sent
before their answers are waited for, which is the fastest that nats-py does.
"""

import asyncio
import json
import shutil
import subprocess
from time import perf_counter

from zstreampub.cli.benches.pace import Beat

from .actors import TOPIC, percentiles
from .coroutines import publish_side_by_side
from .payloads import BATCH, BYTES, batch_of, cycle, due_payload, finished, payload
from .redis_streams import wait_for_port
from .stage import Failed, Missing, free_port

_STREAM = "bench"
_LATE_S = 90
_PENDING_BYTES = 1 << 30        # of a subscription: what nats-py would drop beyond its default


class Nats:
    """A nats-server with JetStream."""

    def __init__(self, folder):
        command = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
        if command is None:
            raise Missing("nats-server is not there. On Debian or Ubuntu: sudo apt-get install nats-server")
        self.port = free_port()
        self._process = subprocess.Popen([command, "-js", "-sd", folder, "-a", "127.0.0.1", "-p", str(self.port)],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self._process.pid

    def end(self):
        self._process.kill()
        self._process.wait()


def start(stage):
    """Start a server with a stream; return its port."""
    server = stage.add_server(Nats(stage.folder))
    wait_for_port(server.port, "nats-server")
    asyncio.run(_add_stream(server.port))
    return server.port


async def _add_stream(port):
    from nats.js.api import StorageType
    connection = await _connect(port)
    await connection.jetstream().add_stream(name=_STREAM, subjects=[TOPIC], storage=StorageType.FILE)
    await connection.close()


def check(stage, port, messages, wrap=None):
    """Fail unless the stream has *messages*."""
    found = asyncio.run(_count(port))
    if found != messages:
        raise Failed(f"{found} messages in the stream, {messages} were answered")


async def _count(port):
    connection = await _connect(port)
    found = await connection.jetstream().stream_info(_STREAM)
    await connection.close()
    return found.state.messages


def publish_singles(link, port, source, callers, messages):
    """Publish single messages, *callers* tasks at a time."""
    async def play():
        connection = await _connect(port)
        return await publish_side_by_side(link, connection.jetstream().publish, source, callers, messages)

    return asyncio.run(play())


def publish_batches(link, port, source, batches, size=BYTES, length=BATCH):
    """Publish batches."""
    cycle(source, size)
    return asyncio.run(_publish(link, port, (batch_of(source, turn, size, length) for turn in range(batches))))


def publish_pipelined(link, port, source, window, messages):
    """Publish single messages, *window* before their answers are waited for."""
    return asyncio.run(_publish(link, port, (
        [payload(source, 0, number) for number in range(first, min(first + window, messages))]
        for first in range(0, messages, window))))


async def _publish(link, port, batches):
    connection, latencies = await _connect(port), []
    answers = await _Answers.of(connection)
    link.ready()
    link.go()
    began = perf_counter()
    for payloads in batches:
        start = perf_counter()
        for one in payloads:
            await connection.publish(TOPIC, one, reply=answers.inbox)
        await answers.wait(len(payloads))
        latencies.append(perf_counter() - start)
    return {"began": began, "ended": perf_counter(), "latencies": percentiles(latencies)}


class _Answers:
    """The answers to what was published on one inbox, counted; an error among them is raised."""

    def __init__(self, inbox):
        self.inbox = inbox
        self._came = self._wanted = 0
        self._error = None
        self._there = asyncio.Event()

    @classmethod
    async def of(cls, connection):
        answers = cls(connection.new_inbox())
        await connection.subscribe(answers.inbox, cb=answers.take)
        await connection.flush()
        return answers

    async def take(self, message):
        if b'"error"' in message.data:
            self._error = json.loads(message.data)["error"]
        self._came += 1
        if self._came >= self._wanted or self._error:
            self._there.set()

    async def wait(self, more):
        """Wait for the answers to *more* messages."""
        self._wanted += more
        while self._came < self._wanted and self._error is None:
            self._there.clear()
            await asyncio.wait_for(self._there.wait(), _LATE_S)
        if self._error is not None:
            raise Failed(f"JetStream refused a message: {self._error}")


def publish_steadily(link, port, rate, messages):
    """Publish at a steady rate; never wait for one message before the next is due."""
    async def play():
        connection, beat = await _connect(port), Beat(rate, messages)
        answers, due = await _Answers.of(connection), asyncio.Event()

        def on_beat():
            beat.take()
            due.set()

        asyncio.get_running_loop().add_reader(beat.fileno(), on_beat)
        link.ready()
        link.go()
        began, first = beat.start(), 0
        while first < messages:
            await due.wait()
            due.clear()
            while first < beat.taken:       # which may grow meanwhile
                await connection.publish(TOPIC, due_payload(first, beat.due(first)), reply=answers.inbox)
                first += 1
            await connection.flush()
        asyncio.get_running_loop().remove_reader(beat.fileno())
        await answers.wait(messages)
        return {"began": began, "ended": perf_counter()}

    return asyncio.run(play())


def subscribe(link, port, readers, messages, make_sink, start="new"):
    """*readers* connections with an ordered consumer each, in one event loop. The stream is empty at first."""
    async def play():
        connections = [await _connect(port) for _ in range(readers)]
        sinks = [make_sink() for _ in connections]
        if start == "earliest":
            link.ready()
            link.go()
        began = perf_counter()
        done = [await _read(*pair, messages) for pair in zip(connections, sinks)]
        if start != "earliest":
            link.ready()
        await asyncio.wait_for(asyncio.gather(*done), _LATE_S)
        return finished(sinks, began, messages)

    return asyncio.run(play())


async def _read(connection, sink, messages):
    """Subscribe, and return the future of the end."""
    done = asyncio.get_running_loop().create_future()

    async def take(message):
        if done.done():
            return
        try:
            sink.take_one(message.data)
        except Exception as error:      # nats-py would only log it
            done.set_exception(error)
        else:
            if sink.messages >= messages:
                done.set_result(None)

    await connection.jetstream().subscribe(TOPIC, cb=take, ordered_consumer=True, pending_msgs_limit=10_000_000,
                                           pending_bytes_limit=_PENDING_BYTES)
    return done


async def _connect(port):
    import nats
    return await nats.connect(f"nats://127.0.0.1:{port}", allow_reconnect=False)
