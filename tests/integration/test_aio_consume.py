"""Consumers for asyncio against a real server: deliveries are settled, callbacks run as coroutines, nothing is lost."""

import asyncio
import logging
import threading

import pytest

from tests.coroutines import until, with_client
from zstreampub.errors import ConnectionLost, InvalidOption, StaleDelivery, SubscriptionEnded


async def filled(client, name, count, **settings):
    """Create the consumer *name* of the topic of that name, with *count* messages: 0, 1, ..."""
    await client.create_consumer(name, name, start="earliest", **settings)
    await client.publish_many(name, range(count))


async def left(client, name):
    """Return how many messages the consumer has not settled."""
    state = await client.consumer(name)
    return state["lag"]["messages"]


# --- one by one ----------------------------------------------------------------------------------


def test_what_is_acknowledged_is_on_disk_when_the_await_returns(server):
    async def main(client):
        await filled(client, "acked", 5)
        async with client.consume("acked", "acked") as orders:
            async for order in orders:
                await order.ack()
                assert await left(client, "acked") == 4 - order.payload
                assert order.is_settled and order.delivery == 1
                if order.payload == 4:
                    break
        assert orders.consumer == "acked" and orders.member

    with_client(server, main)


def test_an_ack_that_nobody_awaits_counts_too(server):
    async def main(client):
        await filled(client, "soon", 200)
        async with client.consume(None, "soon") as orders:
            for _ in range(200):
                (await orders.get()).ack()
        assert await left(client, "soon") == 0

    with_client(server, main)


def test_what_is_given_back_comes_again_and_what_is_rejected_is_a_dead_letter(server):
    async def main(client):
        await filled(client, "verbs", 2)
        async with client.consume(None, "verbs") as orders:
            first, second = await orders.get(), await orders.get()
            await first.nack(delay_s=0, reason="not now")
            await second.reject("never")
            again = await orders.get()
            await again.extend(60)
            await again.ack()
        assert (again.payload, again.delivery, again.offset) == (0, 2, first.offset)
        assert [letter["payload"] for letter in await client.dead("verbs")] == [1]

    with_client(server, main)


def test_the_first_word_counts_and_can_be_awaited_again(server):
    async def main(client):
        await filled(client, "words", 1)
        async with client.consume(None, "words") as orders:
            order = await orders.get()
            said = order.ack()
            assert order.nack() is said
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(order.ack(), 1e-9)
            await order.ack()
            assert said.done()
        assert await left(client, "words") == 0

    with_client(server, main)


def test_what_is_said_wrongly_raises_at_once_and_what_comes_too_late_where_it_is_awaited(server):
    async def main(client):
        await filled(client, "late", 1)
        async with client.consume(None, "late") as orders:
            order = await orders.get()
            with pytest.raises(InvalidOption):
                order.nack(delay_s=-1)
            await client.seek("late", "new")
            with pytest.raises(StaleDelivery):
                await order.ack()

    with_client(server, main)


def test_a_late_ack_that_nobody_awaits_is_logged_once(server, caplog):
    async def main(client):
        await filled(client, "unheard", 1)
        async with client.consume(None, "unheard") as orders:
            order = await orders.get()
            await client.seek("unheard", "new")
            said = order.ack()
            await until(said.done, "the answer")

    with caplog.at_level(logging.WARNING):
        with_client(server, main)

    assert len(caplog.records) == 1 and "StaleDelivery" in caplog.text


def test_a_message_is_never_lost_to_a_reader_that_is_cancelled(server):
    async def main(client):
        await filled(client, "patient", 300)
        found = []
        async with client.consume(None, "patient") as orders:
            while len(found) < 300:
                try:
                    order = await asyncio.wait_for(orders.__anext__(), 0.0005)
                except asyncio.TimeoutError:
                    continue
                found.append(order.payload)
                assert order.delivery == 1
                order.ack()
        assert found == list(range(300)) and await left(client, "patient") == 0

    with_client(server, main)


def test_what_is_ahead_of_the_reader_goes_to_others_when_it_closes(server):
    async def main(client):
        await filled(client, "leaver", 50)
        async with client.consume(None, "leaver") as orders:
            await (await orders.get()).ack()
        async with client.consume(None, "leaver") as others:
            rest = [await others.get() for _ in range(49)]
            for order in rest:
                order.ack()
        assert sorted(order.payload for order in rest) == list(range(1, 50))
        assert await left(client, "leaver") == 0

    with_client(server, main)


def test_what_is_fetched_can_be_settled(server):
    async def main(client):
        await filled(client, "fetched", 3)
        found = await client.fetch("fetched", 2)
        await asyncio.gather(*[order.ack() for order in found])
        assert [order.payload for order in found] == [0, 1] and await left(client, "fetched") == 1
        assert await client.ack("fetched", before=found[-1].offset + 2) == 0

    with_client(server, main)


# --- run -------------------------------------------------------------------------------------------


def test_callbacks_run_as_coroutines_of_the_event_loop_so_many_at_a_time(server):
    async def main(client):
        await filled(client, "crew", 40)
        at_work = most = 0
        done, threads = [], set()

        async def work(order):
            nonlocal at_work, most
            at_work += 1
            most = max(most, at_work)
            threads.add(threading.get_ident())
            await asyncio.sleep(0.002)
            at_work -= 1
            done.append(order.payload)
            if len(done) == 40:
                orders.stop()

        async with client.consume(None, "crew") as orders:
            await orders.run(work, workers=8)
        assert sorted(done) == list(range(40)) and most == 8
        assert threads == {threading.get_ident()}
        assert await left(client, "crew") == 0

    with_client(server, main)


def test_a_plain_function_may_be_the_callback(server):
    async def main(client):
        await filled(client, "plain", 2)
        async with client.consume(None, "plain") as orders:
            await orders.run(lambda order: order.payload and orders.stop())
        assert await left(client, "plain") == 0

    with_client(server, main)


@pytest.mark.parametrize("is_coroutine", [True, False])
def test_on_exception_says_what_becomes_of_a_message(server, is_coroutine):
    name = f"judged-{is_coroutine}"

    async def main(client):
        await filled(client, name, 3, backoff_s=[0.01])
        seen, judged = [], []

        async def work(order):
            seen.append((order.payload, order.delivery))
            if order.payload == 0:
                raise KeyError("rejected")
            if order.payload == 1 and order.delivery == 1:
                raise ValueError("given back")
            if order.payload == 1:
                orders.stop()

        def judge(error, order):
            judged.append((type(error), order.payload, threading.get_ident()))
            return "reject" if isinstance(error, KeyError) else "nack"

        async def judge_later(error, order):
            await asyncio.sleep(0)
            return judge(error, order)

        async with client.consume(None, name) as orders:
            await orders.run(work, on_exception=judge_later if is_coroutine else judge)
        assert sorted(seen) == [(0, 1), (1, 1), (1, 2), (2, 1)]
        assert sorted(judged, key=str) == [(KeyError, 0, threading.get_ident()), (ValueError, 1, threading.get_ident())]
        assert [letter["payload"] for letter in await client.dead(name)] == [0]
        assert await left(client, name) == 0

    with_client(server, main)


def test_stop_as_a_verdict_raises_the_error_and_gives_the_message_back(server):
    async def main(client):
        await filled(client, "stopping", 1)

        async def work(order):
            raise LookupError("enough")

        async with client.consume(None, "stopping") as orders:
            with pytest.raises(LookupError, match="enough"):
                await orders.run(work, workers=4, on_exception=lambda error, order: "stop")
        assert await left(client, "stopping") == 1

    with_client(server, main)


def test_a_run_that_is_cancelled_cancels_its_callbacks_and_gives_their_messages_back(server):
    async def main(client):
        await filled(client, "given-back", 4)
        at_work, cancelled = [], []

        async def work(order):
            at_work.append(order.payload)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(order.payload)
                raise

        async with client.consume(None, "given-back") as orders:
            running = asyncio.create_task(orders.run(work, workers=4))
            await until(lambda: len(at_work) == 4, "the callbacks")
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert sorted(cancelled) == [0, 1, 2, 3]
        async with client.consume(None, "given-back") as others:
            again = [await others.get() for _ in range(4)]
            assert {order.delivery for order in again} == {2}
            assert len(at_work) == 4

    with_client(server, main)


def test_a_callback_that_somebody_else_cancels_has_failed(server):
    async def main(client):
        await filled(client, "somebody", 1)
        errors = []

        async def work(order):
            raise asyncio.CancelledError

        def judge(error, order):
            errors.append(error)
            orders.stop()
            return "reject"

        async with client.consume(None, "somebody") as orders:
            await orders.run(work, on_exception=judge)
        assert len(errors) == 1 and isinstance(errors[0], Exception)

    with_client(server, main)


def test_a_client_that_is_closed_ends_a_run_with_connection_lost_and_cancels_the_callbacks(server):
    async def main(client):
        await filled(client, "closing", 1)
        at_work = asyncio.Event()
        cancelled = []

        async def work(order):
            at_work.set()
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.append(order.payload)

        orders = client.consume(None, "closing")
        running = asyncio.create_task(orders.run(work))
        await at_work.wait()
        await client.close()
        with pytest.raises(ConnectionLost):
            await running
        assert cancelled == [0]

    with_client(server, main)


def test_stop_ends_loops_and_a_consumption_that_was_stopped_does_not_run(server):
    async def main(client):
        await filled(client, "stopped", 10)
        async with client.consume(None, "stopped") as orders:
            async for order in orders:
                await order.ack()
                orders.stop()
            with pytest.raises(SubscriptionEnded):
                await orders.run(print)
        assert await left(client, "stopped") == 9

    with_client(server, main)
