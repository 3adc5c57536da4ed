"""Publishing for asyncio against a real server: at once, cancelled, and with the errors of the gevent client."""

import asyncio
import socket

import pytest

from tests.coroutines import run, with_client
from tests.processes import ServerProcess
from zstreampub.aio import Client
from zstreampub.errors import (
    InvalidOption,
    InvalidPayload,
    InvalidTopic,
    MessageTooLarge,
    NextMismatch,
    UnknownConsumer,
)

SETTINGS = {"max_message_bytes": 100_000}


def test_what_is_published_is_read_back_and_the_server_answers_questions(server):
    async def main(client):
        first = await client.publish("basics.eu", {"id": 1}, key="k", headers={"h": 1})
        many = await client.publish_many("basics.us", [2, 3])
        read = [message async for message in client.subscribe("basics.>", start=first, until="end")]
        assert [message.payload for message in read] == [{"id": 1}, 2, 3]
        assert (read[0].key, read[0].headers, read[0].offset) == ("k", {"h": 1}, first)
        assert many == (first + 1, first + 3)
        assert (await client.get(first)).payload == {"id": 1}
        assert (await client.last("basics.us")).payload == 3
        assert [topic["topic"] for topic in await client.topics("basics.>")] == ["basics.eu", "basics.us"]
        assert (await client.call("about"))["next"] == (await client.about())["next"] == first + 3
        assert "server" in await client.stats() and client.is_connected

    with_client(server, main)


def test_a_thousand_publishes_at_once_share_few_requests(server):
    async def main(client):
        await client.about()
        offsets = await asyncio.gather(*[client.publish("crowd", n) for n in range(1000)])
        assert client._line.client._publisher.requests < 20
        assert len(set(offsets)) == 1000
        messages = [message async for message in client.subscribe("crowd", start="earliest", until="end")]
        assert {message.offset: message.payload for message in messages} == dict(zip(offsets, range(1000)))

    with_client(server, main)


def test_publishing_on_terms_is_that_of_the_gevent_client(server):
    async def main(client):
        first = await client.publish("terms", 1, id="one")
        assert await client.publish("terms", 1, id="one") == first
        assert await client.publish("terms", 2, expected_next=first + 1) == first + 1
        with pytest.raises(NextMismatch):
            await client.publish("terms", 3, expected_next=first)
        assert await client.cancel(await client.publish("terms", 4, delay_s=3600))

    with_client(server, main)


def test_errors_have_the_classes_of_the_gevent_client_and_their_facts(server):
    async def main(client):
        await client.about()
        with pytest.raises(InvalidTopic):
            await client.publish("not a topic", 1)
        with pytest.raises(InvalidPayload):
            await client.publish("errors", object())
        with pytest.raises(InvalidOption):
            await client.publish("errors", 1, timeout_s=-1)
        with pytest.raises(MessageTooLarge) as large:
            await client.publish("errors", b"x" * 200_000)
        with pytest.raises(UnknownConsumer):
            await client.consumer("nobody")
        with pytest.raises(InvalidOption):
            await client.subscribe("errors", start="yesterday")
        with pytest.raises(InvalidOption):
            async with client.consume("errors"):
                pass
        assert large.value.limit == 100_000

    with_client(server, main)


def test_a_payload_that_is_changed_after_the_call_is_published_as_it_was(server):
    async def main(client):
        payload = {"n": 1}
        publish = asyncio.create_task(client.publish("snapshot", payload))
        await asyncio.sleep(0)
        payload["n"] = 2
        assert (await client.get(await publish)).payload == {"n": 1}

    with_client(server, main)


def test_a_publish_that_is_cancelled_before_it_is_sent_is_never_sent(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"tcp://127.0.0.1:{probe.getsockname()[1]}"

    async def main():
        async with Client(endpoint) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.publish("a", "given up"), 0.05)
            loop = asyncio.get_running_loop()
            server = await loop.run_in_executor(None, lambda: ServerProcess(tmp_path, endpoint=endpoint))
            with server:
                await client.publish("a", "wanted")
                return [message.payload async for message in client.subscribe("a", start="earliest", until="end")]

    assert run(main()) == ["wanted"]
