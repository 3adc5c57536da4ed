"""Beginnings and ends of the client for asyncio: event loops, threads, forks, and that nothing is left."""

import asyncio
import gc
import os
import threading
import warnings

import pytest

from tests.coroutines import run, until
from tests.processes import wait_until
from zstreampub.aio import Client
from zstreampub.errors import ConnectionLost, InvalidOption, RequestError


def open_things():
    """Return how many native threads and file descriptors this process has."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def run_and_close(server):
    async def main():
        async with Client(server.endpoint) as client:
            offset = await client.publish("closed", 1)
            async with client.subscribe("closed", start=offset) as subscription:
                await subscription.get()
            async for _ in client.subscribe("closed", start=offset):
                break
            async with client.consume("closed", "closed", start=offset) as orders:
                await (await orders.get()).ack()
    run(main())


def test_no_thread_and_no_descriptor_is_left_after_close(server):
    run_and_close(server)       # zmq's own come with the first socket and stay
    gc.collect()
    before = open_things()

    for _ in range(3):
        run_and_close(server)
        gc.collect()

    wait_until(lambda: open_things() <= before, lambda: f"{open_things()}, before {before}")


def test_a_client_that_was_dropped_without_close_says_so_and_ends_its_thread(server):
    run_and_close(server)
    gc.collect()
    before = open_things()

    async def main():
        client = Client(server.endpoint)
        await client.publish("dropped", 1)

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        run(main())     # which closes its event loop
        gc.collect()

    assert [str(one.message) for one in warned if one.category is ResourceWarning and "zstreampub" in str(one.message)]
    wait_until(lambda: open_things() <= before, lambda: f"{open_things()}, before {before}")


def test_an_event_loop_that_is_closed_while_a_subscription_is_under_way_ends_the_thread_too(server):
    run_and_close(server)
    gc.collect()
    before = open_things()
    kept = []

    async def main():
        client = Client(server.endpoint)
        subscription = await client.subscribe("early")
        kept.append((client, subscription, asyncio.create_task(subscription.get())))
        await client.publish("early", 1)

    async def another():
        async with Client(server.endpoint) as client:
            await client.publish("early", 2)

    run(main())
    run(another())      # what comes now cannot be carried to the first

    wait_until(lambda: open_things() <= before, lambda: f"{open_things()}, before {before}")
    run(kept[0][0].close())     # does nothing, and says nothing


def test_what_waits_when_the_client_is_closed_gets_connection_lost_and_loops_end(server):
    async def main():
        client = Client(server.endpoint)
        async with client:
            subscription = await client.subscribe("waits")
            orders = await client.consume("waits", "waits")
            opening = client.subscribe("waits")
            found = []

            async def loop_over(messages):
                found.extend([message async for message in messages])

            loops = [asyncio.create_task(loop_over(one)) for one in (subscription, orders, opening)]
            asking = asyncio.create_task(client.fetch("waits", timeout_s=20))
            await until(lambda: opening._started, "the opening")
            publishing = asyncio.create_task(client.publish("waits", 1))
            await asyncio.sleep(0)
        await asyncio.gather(*loops)
        for task in (asking, publishing):
            with pytest.raises(ConnectionLost):
                await task
        await subscription.close()
        await orders.close()
        await client.close()
        assert not client.is_open

    run(main())


def test_a_client_that_is_closed_refuses_everything_clearly(server):
    async def main():
        client = Client(server.endpoint)
        await client.close()        # before it was used, too
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="closed"):
                await client.publish("a", 1)
            with pytest.raises(ConnectionLost, match="closed"):
                await client.stats()
            with pytest.raises(ConnectionLost, match="closed"):
                await client.subscribe("a")
        async with Client(server.endpoint) as client:
            await client.publish("refused", 1)
            subscription = await client.subscribe("refused")
            await client.create_consumer("refused", "refused", start="earliest")
            order, = await client.fetch("refused")
        with pytest.raises(ConnectionLost, match="closed"):
            await client.publish("a", 1)
        with pytest.raises(ConnectionLost, match="closed"):
            await order.ack()
        assert [message async for message in subscription] == []

    run(main())


def test_a_client_may_be_made_before_there_is_an_event_loop(server):
    client = Client(server.endpoint)
    subscription = client.subscribe("before", start="earliest", until="end")

    async def main():
        async with client:
            await client.publish("before", 1)
            return [message.payload async for message in subscription]

    assert run(main()) == [1]


def test_a_wrong_option_raises_with_the_first_call_and_leaves_nothing(server):
    before = open_things()

    async def main():
        with pytest.raises(InvalidOption):
            async with Client(server.endpoint, timeout_s=0):
                pass

    run(main())

    wait_until(lambda: open_things() <= before, "the end of the thread")


def test_another_event_loop_needs_a_client_of_its_own(server):
    client = Client(server.endpoint)

    async def use():
        await client.publish("loops", 1)

    async def main():
        await use()
        with pytest.raises(RequestError, match="make one in each"):
            await asyncio.get_running_loop().run_in_executor(None, run, use())
        with pytest.raises(RequestError, match="make one in each"):
            await asyncio.get_running_loop().run_in_executor(None, run, client.close())
        await use()
        await client.close()

    run(main())


def test_several_threads_have_event_loops_and_clients_of_their_own(server):
    found = {}

    def work(number):
        async def main():
            async with Client(server.endpoint) as client, client.subscribe(f"threads.{number}") as subscription:
                await asyncio.gather(*[client.publish(f"threads.{number}", n) for n in range(100)])
                found[number] = sorted([(await subscription.get()).payload for _ in range(100)])
        run(main())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert found == {number: list(range(100)) for number in range(4)}


def test_several_clients_of_one_event_loop_do_not_disturb_each_other(server):
    async def main():
        async with Client(server.endpoint) as one, Client(server.endpoint) as other:
            async with one.subscribe("clients") as subscription:
                await other.publish("clients", 1)
                await other.close()
                return (await subscription.get()).payload

    assert run(main()) == 1


def test_a_fork_gets_a_clear_error_and_the_parent_goes_on(server):
    async def main():
        async with Client(server.endpoint) as client, client.subscribe("fork") as subscription:
            child = os.fork()
            if not child:
                try:
                    refuses(client, subscription)
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
            await client.publish("fork", 1)
            assert (await subscription.get()).payload == 1

    def refuses(client, subscription):
        for coroutine in (client.publish("fork", 2), client.stats(), subscription.get()):
            with pytest.raises(RequestError, match="after the fork"):
                coroutine.send(None)

    run(main())


def test_a_subscription_that_is_dropped_without_close_ends_at_the_server(server):
    async def main():
        async with Client(server.endpoint) as client:
            await client.publish("left", 1)
            async for _ in client.subscribe("left", start="earliest", name="left"):
                break
            gc.collect()
            while [one for one in await client.subscriptions() if one.get("name") == "left"]:
                await asyncio.sleep(0.01)

    run(main())


def test_an_opening_whose_reader_was_cancelled_is_found_by_the_next(server):
    async def main():
        async with Client(server.endpoint) as client:
            subscription = client.subscribe("opening", name="opening")
            reading = asyncio.create_task(subscription.get())
            await asyncio.sleep(0)
            reading.cancel()
            await until(lambda: subscription._opening.done(), "the server's greeting")
            await client.publish("opening", 1)
            assert (await subscription.get()).payload == 1

    run(main())


def test_a_subscription_that_is_closed_while_it_opens_is_left_at_once(server):
    async def main():
        async with Client(server.endpoint) as client:
            subscription = client.subscribe("closing", name="closing")
            reading = asyncio.create_task(subscription.__anext__())
            await asyncio.sleep(0)
            await subscription.close()
            with pytest.raises(StopAsyncIteration):
                await reading
            assert not [one for one in await client.subscriptions() if one.get("name") == "closing"]

    run(main())
