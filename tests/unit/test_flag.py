"""A flag that threads and greenlets wait for."""

import gevent
import pytest
from gevent.monkey import get_original

from zstreampub.threads.flag import Flag
from zstreampub.threads.waits import start_thread


@pytest.fixture
def flag():
    return Flag()


def test_greenlets_and_threads_that_wait_are_woken(flag):
    woken = []
    begun = [Flag() for _ in range(2)]

    def wait(name, start):
        start.set()
        woken.append((name, flag.wait(30)))

    start_thread(wait, ("thread", begun[0]))
    gevent.spawn(wait, "greenlet", begun[1])
    assert all(one.wait(30) for one in begun)
    flag.set()

    with gevent.Timeout(30):
        while len(woken) < 2:
            gevent.sleep(0.001)
    assert sorted(woken) == [("greenlet", True), ("thread", True)]


def test_whoever_comes_late_does_not_wait(flag):
    flag.set()

    assert flag.wait() and flag.is_set


@pytest.mark.parametrize("spawn", [gevent.spawn, lambda *call: start_thread(call[0], call[1:])])
def test_waiting_has_an_end(flag, spawn):
    told = []

    def wait(seconds):
        told.append(flag.wait(seconds))

    spawn(wait, 0.01)

    with gevent.Timeout(30):
        while not told:
            gevent.sleep(0.001)
    assert told == [False]
    flag.set()      # nobody is left to be woken
    flag.clear()
    assert not flag.is_set


def test_setting_it_in_another_thread_wakes_a_greenlet_while_others_go_on(flag):
    turns = []

    def tick():
        while True:
            gevent.sleep(0.001)
            turns.append(1)

    ticker = gevent.spawn(tick)

    def set_later():
        get_original("time", "sleep")(0.05)
        flag.set()

    start_thread(set_later, ())

    assert flag.wait(30)
    assert turns
    ticker.kill()
