"""The outbox against a real server that comes later, goes, comes back, or is another one."""

import asyncio
import socket

import pytest

from tests.coroutines import run
from tests.processes import ServerProcess, wait_until
from zstreampub import Client, aio
from zstreampub.errors import DuplicateId, InvalidOption, SpoolFull


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path / "server") as server:
        yield server


def payloads(client, pattern=">"):
    return [message.payload for message in client.subscribe(pattern, start="earliest", until="end")]


def free_endpoint():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def test_a_server_that_comes_later_goes_and_comes_back(tmp_path):
    with Client(free_endpoint(), outbox=tmp_path / "outbox") as client:
        futures = [client.publish("a", number) for number in range(3)]

        with ServerProcess(tmp_path / "server", endpoint=client._channels._addresses[0]) as server:
            assert [future.get(timeout=30) for future in futures] == [0, 1, 2]
            server.kill()
            client.publish_many("a", range(3, 2_000))
            with client.producer() as producer:
                last = [producer.publish("b" if number % 7 else "c", number, key="k", id=str(number))
                        for number in range(2_000, 4_000)][-1]
            with server.again() as again:
                assert last.get(timeout=30) == 3_999
                client.outbox.wait_until_sent(30)
                assert payloads(client) == list(range(4_000))
                again.kill()


def test_another_log_gets_what_was_not_answered_and_nothing_else(tmp_path, server):
    with Client(server.endpoint, outbox=tmp_path / "outbox") as client:
        client.publish("a", "answered").get(timeout=30)
        server.kill()
        client.publish("a", "kept")

        with ServerProcess(tmp_path / "another", endpoint=server.endpoint):
            client.outbox.wait_until_sent(30)

            assert payloads(client) == ["kept"]


def test_repeats_of_ids_are_answered_with_the_original_and_a_list_of_both_kinds_is_set_aside(tmp_path, server):
    with Client(server.endpoint, outbox=tmp_path / "outbox") as client:
        first = client.publish("a", 1, id="one").get(timeout=30)
        futures = [client.publish("a", 1, id="one"), client.publish_many("a", [1, 2], ids=["one", "two"]),
                   client.publish("a", 3, id="three")]

        assert futures[0].get(timeout=30) == first and futures[2].get(timeout=30) == first + 1
        with pytest.raises(DuplicateId):
            futures[1].get()
        [refused] = client.outbox.refused()
        assert [message.id for message in refused.messages] == ["one", "two"]
        assert payloads(client) == [1, 3]


def test_what_has_expired_in_the_outbox_is_a_gap_in_the_log(tmp_path, server):
    gaps: list = []
    server.kill()
    with Client(server.endpoint, outbox=tmp_path / "outbox") as client:
        client.publish("a", "short", ttl_s=0.001)
        client.publish("a", "long", ttl_s=1_000)
        wait_until(lambda: client.outbox.age_s > 0.01, "time to pass")

        with server.again():
            client.outbox.wait_until_sent(30)

            found = client.subscribe("a", start="earliest", until="end", on_gap=gaps.append)
            assert [message.payload for message in found] == ["long"]
    assert [gap["why"] for gap in gaps] == ["expired"]


def test_a_server_whose_disk_is_full_is_tried_again(tmp_path):
    with ServerProcess(tmp_path / "server", max_store_bytes=8 << 20) as server, \
            Client(server.endpoint, outbox=tmp_path / "outbox") as client:
        for number in range(30):
            client.publish("a", [number, bytes(500_000)])
        wait_until(lambda: client.outbox.last_error, "the server to be full")
        assert type(client.outbox.last_error).__name__ == "StoreFull" and client.outbox.messages > 0


def test_the_asyncio_client_has_an_outbox_too(tmp_path, server):
    async def main():
        async with aio.Client(server.endpoint, outbox=tmp_path / "outbox") as client:
            first, many = await client.publish("a", 1), await client.publish_many("a", [2, 3])
            assert (await first, await many, await first) == (0, (1, 3), 0)
            with pytest.raises(InvalidOption, match="without an outbox"):
                await client.publish("a", 1, delay_s=5)
            server.kill()
            futures = await asyncio.gather(*(client.publish("a", number) for number in range(4, 100)))
            outbox = client.outbox
            assert outbox.messages == 96 and outbox.size_bytes > 96 and outbox.age_s >= 0
            assert outbox.refused_count == 0 and outbox.last_error is None and not outbox.is_sending
            with server.again():
                await outbox.wait_until_sent(30)
                assert await futures[-1] == 98 and outbox.messages == 0
                assert await outbox.refused() == [] and await outbox.clear_refused() == 0
            assert aio.Client(server.endpoint).outbox is None

    run(main())


def test_the_asyncio_client_is_told_that_the_outbox_is_full(tmp_path):
    async def main():
        async with aio.Client(free_endpoint(), outbox=tmp_path / "outbox", outbox_max_messages=1) as client:
            await client.publish("a", 1)
            with pytest.raises(SpoolFull):
                await client.publish("a", 2)

    run(main())
