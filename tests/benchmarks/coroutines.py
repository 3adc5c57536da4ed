"""What the client processes of asyncio do, and beside them those of gevent that do the same."""

import asyncio
from time import perf_counter

import zstreampub
from zstreampub import aio

from .actors import TOPIC, percentiles
from .payloads import BATCH, Sink, payload


def publish_singles(link, endpoint, source, callers, messages):
    """Publish single messages, *callers* coroutines at a time, each waiting for its answer."""
    return asyncio.run(_publish_singles(link, endpoint, source, callers, messages))


async def _publish_singles(link, endpoint, source, callers, messages):
    async with aio.Client(endpoint) as client:
        await client.about()
        return await publish_side_by_side(link, client.publish, source, callers, messages)


async def publish_side_by_side(link, publish, source, callers, messages):
    """Have *callers* tasks wait for ``publish(topic, payload)`` again and again; return when, and the latencies."""
    latencies = []

    async def caller(number):
        for at in range(messages // callers):
            began = perf_counter()
            await publish(TOPIC, payload(source, number, at))
            latencies.append(perf_counter() - began)

    link.ready()
    link.go()
    began = perf_counter()
    await asyncio.gather(*[caller(number) for number in range(callers)])
    return {"began": began, "ended": perf_counter(), "latencies": percentiles(latencies)}


def read_messages(link, endpoint, messages):
    """Read *messages* one by one, from the earliest, and check every one; in gevent."""
    check = Check()
    with zstreampub.Client(endpoint) as client:
        client.about()
        link.ready()
        link.go()
        began = perf_counter()
        for message in client.subscribe(TOPIC, start="earliest", until="end"):
            check.take(message)
        return {"began": began, "ended": check.ended(messages)}


def read_batches(link, endpoint, messages):
    """Read *messages* in batches; in gevent."""
    check = Check()
    with zstreampub.Client(endpoint) as client:
        client.about()
        link.ready()
        link.go()
        began = perf_counter()
        for batch in client.subscribe(TOPIC, start="earliest", until="end").batches():
            check.sink.take_run(batch.first, batch.payloads)
        return {"began": began, "ended": check.ended(messages)}


def read_messages_aio(link, endpoint, messages):
    """Read *messages* one by one; in asyncio."""
    async def read(subscription, check):
        async for message in subscription:
            check.take(message)
    return asyncio.run(_read(link, endpoint, messages, read))


def read_batches_aio(link, endpoint, messages):
    """Read *messages* in batches; in asyncio."""
    async def read(subscription, check):
        async for batch in subscription.batches():
            check.sink.take_run(batch.first, batch.payloads)
    return asyncio.run(_read(link, endpoint, messages, read))


async def _read(link, endpoint, messages, read):
    check = Check()
    async with aio.Client(endpoint) as client:
        await client.about()
        link.ready()
        link.go()
        began = perf_counter()
        await read(client.subscribe(TOPIC, start="earliest", until="end"), check)
        return {"began": began, "ended": check.ended(messages)}


class Check:
    """Gathers single messages of one source, and checks them a batch at a time."""

    def __init__(self):
        self.sink = Sink([0])
        self._payloads: list = []

    def take(self, message):
        self._payloads.append(message.payload)
        if len(self._payloads) == BATCH:
            self.sink.take_run(message.offset + 1 - BATCH, self._payloads)
            self._payloads = []

    def ended(self, messages):
        """Return when: now. Fails unless all have come."""
        if self.sink.messages != messages:
            raise RuntimeError(f"{self.sink.messages} messages came, {messages} were published")
        return perf_counter()
