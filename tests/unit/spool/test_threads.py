"""Stores used by many at once: greenlets, native threads, both; interrupted, killed, forked."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import gevent
import pytest
from gevent.threadpool import ThreadPool

from tests.unit.spool.test_fifo_bounds import DEADLINE_S
from zstreampub.disk.journal import Journal
from zstreampub.errors import StoreClosed, StoreError
from zstreampub.spool.contents import Contents

ROOT = Path(__file__).parents[3]


def run_threads(count, work):
    """Run ``work(number)`` in *count* native threads; the hub goes on."""
    pool = ThreadPool(count)
    try:
        gevent.joinall([pool.spawn(work, number) for number in range(count)], raise_error=True, timeout=DEADLINE_S)
    finally:
        pool.kill()


def check_all_there(store, workers, each):
    """Everybody's messages are there, once, in his order."""
    found = list(store)
    assert len(found) == workers * each
    for worker in range(workers):
        assert [number for name, number in found if name == worker] == list(range(each))


def test_greenlets_share_commits(fifo):
    before = fifo.state.serial

    def add(worker):
        for number in range(20):
            fifo.add([worker, number])

    gevent.joinall([gevent.spawn(add, worker) for worker in range(50)], raise_error=True, timeout=DEADLINE_S)

    check_all_there(fifo, 50, 20)
    assert fifo.state.serial - before <= 100, "1000 messages of 50 greenlets, in groups"


def test_threads_share_commits(fifo):
    def add(worker):
        for number in range(20):
            fifo.add([worker, number])

    run_threads(20, add)

    check_all_there(fifo, 20, 20)
    assert fifo.state.serial < 400


def test_threads_and_greenlets_add_and_take_together(open_fifo):
    store = open_fifo(max_messages=20, when_full="block")
    taken = []

    def add(worker):
        for number in range(50):
            store.add([worker, number])

    def take():
        while len(taken) < 6 * 50:
            found = store.front_many(7)
            if not found:
                gevent.sleep(0.0005)
                continue
            store.pop_many(len(found))
            taken.extend(found)

    taking = gevent.spawn(take)
    green = [gevent.spawn(add, worker) for worker in range(3)]
    run_threads(3, lambda worker: add(worker + 3))
    gevent.joinall([*green, taking], raise_error=True, timeout=DEADLINE_S)

    assert len(store) == 0
    for worker in range(6):
        assert [number for name, number in taken if name == worker] == list(range(50))


def test_a_hub_goes_on_while_a_greenlet_waits_for_the_disk(fifo, monkeypatch):
    at_disk, go_on = threading.Event(), threading.Event()
    append = Journal.append

    def slow(journal, *record):
        at_disk.set()
        assert go_on.wait(DEADLINE_S)
        return append(journal, *record)

    monkeypatch.setattr(Journal, "append", slow)
    adding = gevent.spawn(fifo.add, 1)
    with gevent.Timeout(DEADLINE_S):
        while not at_disk.is_set():
            gevent.sleep(0.001)

    assert fifo.front() is None and len(fifo) == 0 and list(fifo) == []     # none of these waits for the disk
    go_on.set()

    assert adding.get(timeout=DEADLINE_S) and fifo.front() == 1


def test_a_greenlet_that_is_killed_at_the_disk_tears_nobody_with_it(fifo, monkeypatch):
    at_disk, go_on = threading.Event(), threading.Event()
    append = Journal.append

    def slow(journal, *record):
        at_disk.set()
        assert go_on.wait(DEADLINE_S)
        return append(journal, *record)

    monkeypatch.setattr(Journal, "append", slow)
    victim = gevent.spawn(fifo.add, "victim")
    with gevent.Timeout(DEADLINE_S):
        while not at_disk.is_set():
            gevent.sleep(0.001)
    others = [gevent.spawn(fifo.add, number) for number in range(3)]
    gevent.sleep(0)

    victim.kill()
    go_on.set()

    gevent.joinall(others, raise_error=True, timeout=DEADLINE_S)
    assert list(fifo) == ["victim", 0, 1, 2]    # it was at the disk already


@pytest.mark.parametrize("when", ["before the disk", "after the disk", "in memory", "while telling"])
def test_a_thread_that_is_interrupted_while_it_commits_loses_nothing_of_the_others(fifo, monkeypatch, when):
    """Ctrl-C in the midst of a commit that holds another thread's message as well."""
    append, apply, settle, calls = Journal.append, Contents.apply, fifo._group.settle, []
    followers_wait, leads = threading.Event(), threading.Event()

    def interrupt_second(place):
        if place == when and len(calls) == 2:
            calls.append("no more")
            raise KeyboardInterrupt

    def interrupted_append(journal, *record):
        calls.append("append")
        if len(calls) == 1:         # somebody else comes while this one is at the disk
            leads.set()
            assert followers_wait.wait(DEADLINE_S)
        interrupt_second("before the disk")
        done = append(journal, *record)
        interrupt_second("after the disk")
        return done

    def interrupted_apply(contents, *arguments):
        if len(calls) == 2:
            contents.front.cut(contents.state.next)     # torn
        interrupt_second("in memory")
        return apply(contents, *arguments)

    def interrupted_settle(*arguments, **options):
        settle(*arguments, **options)
        interrupt_second("while telling")

    monkeypatch.setattr(Journal, "append", interrupted_append)
    monkeypatch.setattr(fifo._group, "settle", interrupted_settle)
    if when == "in memory":
        monkeypatch.setattr(Contents, "apply", interrupted_apply)
    outcomes = {}

    def add(name):
        try:
            outcomes[name] = fifo.add(name)
        except BaseException as error:
            outcomes[name] = type(error)

    first = threading.Thread(target=add, args=("first",))
    first.start()
    assert leads.wait(DEADLINE_S)
    others = [threading.Thread(target=add, args=(name,)) for name in ("second", "third")]
    for one in others:
        one.start()
    with gevent.Timeout(DEADLINE_S):
        while len(fifo._group._pending) < 2:
            gevent.sleep(0.001)
    followers_wait.set()
    for one in [first, *others]:
        one.join(DEADLINE_S)

    assert outcomes["first"] is True
    assert sorted([outcomes["second"], outcomes["third"]], key=str) == [KeyboardInterrupt, True]
    monkeypatch.undo()
    assert fifo.front() == "first"
    assert fifo.add("fourth")
    found = list(fifo)
    assert found[0] == "first" and found[-1] == "fourth" and sorted(found[1:-1]) == ["second", "third"]


def test_a_commit_that_fails_is_told_to_all_of_it_and_the_next_one_works(fifo, monkeypatch):
    fifo.add(1)

    def broken(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Journal, "append", broken)
    with pytest.raises(StoreError, match="ZeroDivisionError"):
        fifo.add(2)
    monkeypatch.undo()

    assert fifo.add(3) and list(fifo) == [1, 3]


def test_a_journal_that_cannot_be_written_is_done_without(fifo, monkeypatch):
    def refused(*_):
        raise OSError(28, "No space left on device")

    fifo.add(1)
    monkeypatch.setattr(os, "pwrite", refused)
    assert fifo.add(2)
    monkeypatch.undo()
    fifo.add(3)

    assert list(fifo) == [1, 2, 3]


# --- other processes ------------------------------------------------------------------------------------


def test_after_a_fork_the_child_is_told_and_the_parent_goes_on(fifo, place):
    fifo.add(1)
    program = f"""
import os, sys
from zstreampub import FifoStore
from zstreampub.errors import StoreClosed
store = FifoStore({str(place) + "-2"!r})
store.add(1)
child = os.fork()
if not child:
    try:
        store.add(2)
    except StoreClosed as error:
        store.close()
        os._exit(7 if "fork" in str(error) else 8)
    os._exit(9)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
store.add(3)
assert list(store) == [1, 3]
store.close()
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)


PROGRAM = """
import threading, sys
from zstreampub import FifoStore, LatestStore
place = sys.argv[1]
with FifoStore(place, max_messages=50, when_full="block") as store, LatestStore(place + "-latest") as latest:
    def work(worker):
        for number in range(40):
            store.add([worker, number])
            latest.add([worker, number])
    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(5)]
    for one in threads:
        one.start()
    taken = []
    while len(taken) < 200:
        found = store.front()
        if found is None:
            time.sleep(0.001)
            continue
        store.pop_front()
        taken.append(found)
    for one in threads:
        one.join()
    for worker in range(5):
        assert [number for name, number in taken if name == worker] == list(range(40))
    assert latest.message()[1] == 39
with FifoStore(place) as store:
    assert len(store) == 0
"""


@pytest.mark.parametrize("opening", [
    "import time", "import gevent.monkey; gevent.monkey.patch_all(); import time",
    "import gevent; gevent.get_hub(); import time"], ids=["plain", "patched", "with a hub"])
def test_it_works_in_programs_of_every_kind(tmp_path, opening):
    subprocess.run([sys.executable, "-c", opening + PROGRAM, str(tmp_path / "store")], check=True, cwd=ROOT, timeout=60)


def test_a_program_that_does_not_close_it_ends_and_loses_nothing(open_fifo, place):
    program = """
import sys, gevent
from zstreampub import FifoStore
store = FifoStore(sys.argv[1])
gevent.spawn(store.add, "by a greenlet").get()
"""
    subprocess.run([sys.executable, "-c", program, str(place)], check=True, cwd=ROOT, timeout=60)

    assert list(open_fifo()) == ["by a greenlet"]


def test_what_waits_when_it_is_closed_is_written_first(open_fifo):
    store = open_fifo()
    adding = [gevent.spawn(store.add, number) for number in range(5)]
    gevent.sleep(0)

    store.close()

    assert all(one.get(timeout=DEADLINE_S) for one in adding)
    with pytest.raises(StoreClosed):
        store.add(6)
    assert list(open_fifo()) == list(range(5))
