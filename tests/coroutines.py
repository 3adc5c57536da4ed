"""Coroutines in tests: each test has an event loop of its own, and no longer than a deadline."""

import asyncio

from tests.processes import DEADLINE_S
from zstreampub.aio import Client


def run(coroutine):
    """Run *coroutine* in an event loop of its own; return what it does."""
    async def bounded():
        return await asyncio.wait_for(coroutine, DEADLINE_S)
    return asyncio.run(bounded())


def with_client(server, main):
    """Run ``main(client)`` in an event loop of its own, with a client of *server*."""
    async def inside():
        async with Client(server.endpoint) as client:
            return await main(client)
    return run(inside())


async def until(condition, what):
    """Wait until *condition()* is true; fail, saying *what* did not come, after the deadline."""
    async def look():
        while not condition():
            await asyncio.sleep(0.005)
    try:
        await asyncio.wait_for(look(), DEADLINE_S)
    except asyncio.TimeoutError:
        raise AssertionError(f"not within {DEADLINE_S} s: {what}") from None
