"""Subscriptions for asyncio against a real server: in order, told of gaps, cancelled, and never too far ahead."""

import asyncio
import random
import threading

import pytest

from tests.coroutines import run, until, with_client
from tests.processes import ServerProcess
from zstreampub.aio import Client
from zstreampub.aio.pump import MOST_MESSAGES
from zstreampub.errors import (
    GapError,
    RequestTimeout,
    SlowConsumer,
    SubscriptionEnded,
)


async def read(subscription, count):
    """Return the payloads of the next *count* messages."""
    return [(await subscription.get()).payload for _ in range(count)]


def test_a_subscription_begins_when_it_is_awaited_or_entered(server):
    async def main(client):
        awaited = await client.subscribe("begin")
        async with client.subscribe("begin") as entered:
            lazy = client.subscribe("begin", until=(await client.about())["next"] + 2)
            await client.publish("begin", 1)
            assert lazy.offset is None and awaited.offset is not None
            assert (await read(awaited, 1), await read(entered, 1)) == ([1], [1])
            reading = asyncio.create_task(lazy.get())
            await until(lambda: lazy.id, "the server's greeting")
            await client.publish("begin", 2)
            assert (await reading).payload == 2     # it began with its first reader
        await awaited.close()

    with_client(server, main)


def test_a_message_is_never_lost_to_a_reader_that_is_cancelled(server):
    async def main(client):
        subscription = client.subscribe("cancelled")
        found, timeouts = [], 0
        chance = random.Random(1)

        async def publish():
            await until(lambda: subscription.id, "the server's greeting")
            for n in range(300):
                await client.publish("cancelled", n)

        publishing = asyncio.create_task(publish())
        while len(found) < 300:
            try:
                found.append((await asyncio.wait_for(subscription.__anext__(), chance.random() * 0.002)).payload)
            except asyncio.TimeoutError:
                timeouts += 1
        await publishing
        assert found == list(range(300)) and timeouts

    with_client(server, main)


def test_several_readers_share_the_messages_also_when_one_is_cancelled(server):
    async def main(client):
        subscription = await client.subscribe("shared")
        found = []

        async def work():
            async for message in subscription:
                found.append(message.payload)
                await asyncio.sleep(0)

        readers = [asyncio.create_task(work()) for _ in range(4)]
        await asyncio.sleep(0)
        await client.publish_many("shared", range(100))
        readers[0].cancel()
        await client.publish_many("shared", range(100, 200))
        await until(lambda: len(found) == 200, "all messages")
        await subscription.close()
        await asyncio.gather(*readers, return_exceptions=True)
        assert sorted(found) == list(range(200))
        assert all(reader.done() and not reader.cancelled() and reader.exception() is None for reader in readers[1:])

    with_client(server, main)


def test_a_reader_that_does_not_read_holds_little_and_the_server_hears_of_it(server):
    async def main(client):
        slow = await client.subscribe("slow", policy="disconnect", max_messages=20_000, reconnect=False)
        assert (await asyncio.gather(slow.get(), client.publish("slow", b"first")))[0].payload == b"first"

        sent = 1
        while slow.id in [one["id"] for one in await client.subscriptions()]:
            assert sent < 1_000_000, "the server never heard of it"
            await asyncio.gather(*[client.publish_many("slow", [b"x" * 100] * 1000) for _ in range(10)])
            sent += 10_000
        ahead = sum(messages for _, messages, _, _ in slow._items)
        came = 0
        with pytest.raises(SlowConsumer) as ended:
            async for _ in slow:
                came += 1

        assert 0 < ahead <= MOST_MESSAGES
        assert came < sent - 1 and ended.value.resume == slow.offset

    with_client(server, main)


def test_batches_and_messages_may_be_read_in_turn(server):
    async def main(client):
        await client.publish_many("batches", range(10))
        subscription = client.subscribe("batches", start="earliest", until="end")
        first = await read(subscription, 3)
        at = subscription.offset
        rest = [message.offset async for batch in subscription.batches() for message in batch.messages()]
        assert first == [0, 1, 2] and rest == list(range(at, at + 7))
        assert subscription.offset == at + 7

    with_client(server, main)


def test_large_batches_come_in_parts(server):
    async def main(client):
        first, next = await client.publish_many("large", range(5000))
        parts = [batch async for batch in client.subscribe("large", start="earliest", until="end").batches()]
        assert [message.offset for batch in parts for message in batch.messages()] == list(range(first, next))
        assert max(batch.count for batch in parts) <= MOST_MESSAGES // 2

    with_client(server, main)


def test_get_returns_what_is_here_and_raises_when_nothing_comes_and_at_the_end(server):
    async def main(client):
        await client.publish_many("get", [1, 2])
        async with client.subscribe("get", start="earliest") as subscription:
            assert await read(subscription, 1) == [1]
            assert (await subscription.get(timeout_s=0)).payload == 2
            for _ in range(3):
                with pytest.raises(RequestTimeout):
                    await subscription.get(timeout_s=0.005)
            assert not subscription._waiters
        with pytest.raises(SubscriptionEnded):
            await subscription.get()
        with pytest.raises(SubscriptionEnded):
            await subscription

    with_client(server, main)


async def expired(client, topic):
    """Leave a gap of one message between 1 and 3."""
    await client.publish(topic, 1)
    gone = await client.publish(topic, 2, ttl_s=0.001)
    await client.publish(topic, 3)
    await asyncio.sleep(0.01)
    return gone


def test_a_gap_is_raised_at_its_place_once(server):
    async def main(client):
        gone = await expired(client, "gap.raised")
        subscription = client.subscribe("gap.raised", start="earliest", until="end")
        assert await read(subscription, 1) == [1]
        with pytest.raises(GapError) as gap:
            await subscription.get()
        assert (gap.value.first, gap.value.next, gap.value.why) == (gone, gone + 1, "expired")
        assert await read(subscription, 1) == [3] and subscription.gaps == 1

    with_client(server, main)


def test_callbacks_are_called_in_the_event_loop_at_their_place(server):
    async def main(client):
        told, threads = [], set()

        async def on_gap(gap):
            await asyncio.sleep(0)
            threads.add(threading.get_ident())
            told.append(gap["control"])

        def on_control(control):
            threads.add(threading.get_ident())
            told.append(control["control"])

        await expired(client, "gap.told")
        async for message in client.subscribe("gap.told", start="earliest", until="end", on_gap=on_gap,
                                              on_control=on_control):
            told.append(message.payload)
        assert [one for one in told if one != "keepalive"] == ["subscribed", 1, "gap", 3, "end"]
        assert threads == {threading.get_ident()}

    with_client(server, main)


def test_what_a_callback_raises_comes_out_of_the_iteration(server):
    async def main(client):
        await expired(client, "gap.bad")
        subscription = client.subscribe("gap.bad", start="earliest", until="end", on_gap=lambda gap: 1 / 0)
        assert await read(subscription, 1) == [1]
        with pytest.raises(ZeroDivisionError):
            await subscription.get()
        assert await read(subscription, 1) == [3]

    with_client(server, main)


def test_a_subscription_goes_on_over_a_restart_of_the_server(tmp_path):
    async def main(server):
        loop = asyncio.get_running_loop()
        async with Client(server.endpoint) as client, client.subscribe("a") as subscription:
            await client.publish("a", 1)
            assert await read(subscription, 1) == [1]
            server.kill()
            with await loop.run_in_executor(None, server.again):
                await client.publish("a", 2)
                assert await read(subscription, 1) == [2]
                assert subscription.resumed >= 1

    with ServerProcess(tmp_path) as server:
        run(main(server))


def test_other_coroutines_run_while_one_reads_what_is_here(server):
    async def main(client):
        for _ in range(10):
            await client.publish_many("busy", [b""] * 2000)
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        async for _ in client.subscribe("busy", start="earliest", until="end"):
            pass
        before = turns
        counting.cancel()
        assert before > 3

    with_client(server, main)
