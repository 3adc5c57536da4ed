"""Calls are carried from any thread to one hub, and what nobody waits for any more is undone."""

import gc
import threading
import weakref
from contextlib import suppress

import gevent
import pytest
from gevent.event import Event

from zstreampub.errors import StoreClosed
from zstreampub.threads.carrier import Call
from zstreampub.threads.home import Home


class Inside:
    """What lives in the home: it knows whether it was closed."""

    def __init__(self):
        self.thread = threading.get_ident()
        self.closed = 0

    def close(self):
        self.closed += 1


@pytest.fixture
def home():
    home = Home(Inside)
    yield home
    home.close()


def in_thread(function):
    """Start *function* in a native thread; return the thread and the list that its result or error comes into."""
    outcome = []

    def run():
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_what_is_opened_lives_in_a_thread_of_its_own(home):
    assert home.inside.thread != threading.get_ident()
    assert home.carrier.call(threading.get_ident) == home.inside.thread


def test_a_call_returns_or_raises_what_the_function_does(home):
    assert home.carrier.call(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        home.carrier.call(lambda: 1 / 0)


def test_an_error_while_opening_is_raised_where_it_was_opened():
    with pytest.raises(ZeroDivisionError):
        Home(lambda: 1 / 0)


def test_a_greenlet_that_waits_lets_the_others_of_its_thread_go_on(home):
    bell = home.carrier.call(Event)
    waiting = gevent.spawn(home.carrier.call, lambda: bell.wait() and "rung")

    assert home.carrier.call(lambda: bell.set() or "set") == "set"

    assert waiting.get(timeout=10) == "rung"


def test_native_threads_wait_for_each_other(home):
    bell = home.carrier.call(Event)
    thread, outcome = in_thread(lambda: home.carrier.call(lambda: bell.wait() and "rung"))

    home.carrier.call(bell.set)

    thread.join(10)
    assert outcome == ["rung"]


def test_run_in_the_hubs_own_thread_is_a_plain_call_and_call_is_refused(home):
    assert home.carrier.call(lambda: home.carrier.run(lambda: 7)) == 7
    with pytest.raises(RuntimeError, match="own thread"):
        home.carrier.call(lambda: home.carrier.call(lambda: 7))


def test_an_error_that_was_handled_keeps_nothing_alive(home):
    class Thing:
        def fail(self):
            raise ZeroDivisionError

    def use():
        thing = Thing()
        with suppress(ZeroDivisionError):
            home.carrier.call(lambda: thing.fail())
        return weakref.ref(thing)

    gc.disable()
    try:
        found = use()
        home.carrier.call(lambda: None)
        assert found() is None
    finally:
        gc.enable()


def test_the_work_of_a_caller_that_gave_up_is_stopped(home):
    started, stopped = Event(), []

    def work():
        try:
            started.set()
            gevent.sleep(1000)
        except gevent.GreenletExit:
            stopped.append(True)

    waiting = gevent.spawn(home.carrier.call, work)
    assert started.wait(10)
    waiting.kill()

    home.carrier.call(lambda: None)
    assert stopped == [True]


def test_the_result_that_a_caller_did_not_wait_for_is_undone(home):
    begun, undone = home.carrier.call(Event), home.carrier.call(Event)
    results = []

    def work():
        begun.set()
        try:
            gevent.sleep(1000)
        except gevent.GreenletExit:
            return "taken all the same"

    def undo(result):
        results.append(result)
        undone.set()

    waiting = gevent.spawn(home.carrier.call, work, undo)
    assert home.carrier.call(lambda: begun.wait(10))
    waiting.kill()

    assert home.carrier.call(lambda: undone.wait(10))
    assert results == ["taken all the same"]


def test_closing_ends_the_calls_that_wait_and_refuses_later_ones():
    home = Home(Inside)
    begun = home.carrier.call(Event)
    thread, outcome = in_thread(lambda: home.carrier.call(lambda: begun.set() or gevent.sleep(1000)))
    assert home.carrier.call(lambda: begun.wait(10))

    home.close()
    home.close()

    thread.join(10)
    assert isinstance(outcome[0], StoreClosed)
    assert home.inside.closed == 1
    with pytest.raises(StoreClosed):
        home.carrier.call(lambda: 7)


def test_a_call_that_is_abandoned_before_it_has_begun_leaves_nothing(home):
    def begin_and_abandon():
        call = Call(lambda: 1, None, lambda: None)
        home.carrier.start(call)
        call.abandon()
        return weakref.ref(call)

    left = home.carrier.call(begin_and_abandon)
    home.carrier.call(lambda: gevent.sleep(0.01))
    gc.collect()

    assert left() is None


def test_what_is_posted_is_called_on_the_hub_until_it_is_closed(home):
    called = threading.Event()

    assert home.carrier.post(called.set)
    assert called.wait(10)
    home.close()
    assert not home.carrier.post(called.set)
