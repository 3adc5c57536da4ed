"""The line between an event loop and a hub: what is said in one turn goes over in one go, and who waits is answered."""

import asyncio
import os
import queue
import threading

import gevent
import pytest
from gevent.event import Event

from tests.coroutines import run
from tests.processes import DEADLINE_S
from zstreampub.aio.line import Line
from zstreampub.errors import ConnectionLost, RequestError
from zstreampub.threads.home import Home


class Inside:
    """What lives on the hub."""

    def __init__(self):
        self.thread = threading.get_ident()
        self.killed = threading.Event()
        self.undone = queue.SimpleQueue()

    def wait_for_ever(self):
        try:
            Event().wait()
        except gevent.GreenletExit:
            self.killed.set()
            raise

    def close(self):
        pass


@pytest.fixture
def home():
    home = Home(Inside)
    yield home
    home.close()


def line_to(home, on_lost=lambda: None):
    return Line(asyncio.get_running_loop(), home.carrier, home.inside, on_lost)


def posts_of(home, monkeypatch):
    """Return the list that notes what is posted to the hub."""
    posted, post = [], home.carrier.post

    def note(function, *args):
        posted.append(args)
        return post(function, *args)

    monkeypatch.setattr(home.carrier, "post", note)
    return posted


def test_what_coroutines_ask_in_one_turn_goes_to_the_hub_and_comes_back_in_one_go(home, monkeypatch):
    posted = posts_of(home, monkeypatch)
    came = []

    async def main():
        line = line_to(home)
        loop = asyncio.get_running_loop()
        threadsafe = loop.call_soon_threadsafe

        def note(*args):
            came.append(args)
            return threadsafe(*args)

        monkeypatch.setattr(loop, "call_soon_threadsafe", note)
        return await asyncio.gather(*[line.run(lambda n=n: n) for n in range(1000)])

    answers = run(main())

    assert answers == list(range(1000))
    assert len(posted) == 1 and len(came) == 1


def test_a_call_runs_on_the_hub_and_returns_or_raises_what_the_function_does(home):
    async def main():
        line = line_to(home)
        with pytest.raises(ZeroDivisionError):
            await line.run(lambda: 1 / 0)
        return await line.run(threading.get_ident)

    assert run(main()) == home.inside.thread != threading.get_ident()


def test_a_call_that_is_cancelled_is_killed_on_the_hub(home):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(line_to(home).run(home.inside.wait_for_ever), 0.05)

    run(main())

    assert home.inside.killed.wait(DEADLINE_S)


def test_the_result_of_a_call_that_was_cancelled_meanwhile_is_undone(home):
    async def main():
        line = line_to(home)
        task = asyncio.create_task(line.run(lambda: "made", undo=home.inside.undone.put))
        await asyncio.sleep(0)
        line.flush()
        home.carrier.call(lambda: gevent.sleep(0.02), block=True)       # it is done there, and nothing of it is here
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)      # a turn, in which that is said

    run(main())

    assert home.inside.undone.get(timeout=DEADLINE_S) == "made"


def test_who_waits_when_the_line_is_closed_gets_connection_lost_and_so_does_who_comes_later(home):
    async def main():
        line = line_to(home)
        waiting = asyncio.create_task(line.run(home.inside.wait_for_ever))
        await line.run(lambda: 1)

        line.close()

        with pytest.raises(ConnectionLost):
            await waiting
        with pytest.raises(ConnectionLost):
            line.check()
        with pytest.raises(ConnectionLost):
            await line.run(lambda: 1)

    run(main())

    assert home.inside.killed.wait(DEADLINE_S)


def test_what_fails_on_the_other_side_keeps_nothing_else_from_being_called(home, caplog):
    async def main():
        line = line_to(home)
        line.to_hub(lambda: 1 / 0)
        return await line.run(lambda: 7)

    assert run(main()) == 7
    assert "division by zero" in caplog.text


def test_another_event_loop_is_told_to_make_a_client_of_its_own(home):
    async def main():
        return line_to(home)

    line = run(main())

    async def elsewhere():
        line.check()

    with pytest.raises(RequestError, match="make one in each"):
        run(elsewhere())


def test_a_fork_is_told_to_make_a_client_of_its_own(home):
    async def main():
        line = line_to(home)
        child = os.fork()
        if not child:
            try:
                line.check()
            except RequestError as error:
                os._exit(0 if "after the fork" in str(error) else 2)
            os._exit(1)
        return os.waitpid(child, 0)[1]

    assert run(main()) == 0


def test_an_event_loop_that_was_closed_early_is_noticed_once(home):
    lost = queue.SimpleQueue()

    async def main():
        return line_to(home, lambda: lost.put("lost"))

    line = run(main())

    home.carrier.call(lambda: line.to_loop(print), block=True)
    assert lost.get(timeout=DEADLINE_S) == "lost"
    home.carrier.call(lambda: line.to_loop(print), block=True)
    home.carrier.call(lambda: gevent.sleep(0.01), block=True)

    assert lost.empty()
