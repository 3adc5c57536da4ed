"""What is still to come for a consumer is counted in the log, and only what is different is counted again."""

import pytest

from zstreampub import Broker
from zstreampub.consumers.backlog import Backlog
from zstreampub.topics import PatternSet


class Counting:
    """A store that notes how much was measured; ``before`` is called first."""

    def __init__(self, store):
        self.store = store
        self.looked = []
        self.before = lambda: None

    def trim_mark(self):
        return self.store.trim_mark()

    def measure(self, wanted, first, next):
        self.before()
        self.looked.append((first, next))
        return self.store.measure(wanted, first, next)


@pytest.fixture(params=["memory", "lmdb"])
def broker(request, tmp_path):
    with Broker.open("memory:" if request.param == "memory" else f"lmdb:{tmp_path}/log") as broker:
        for n in range(10):
            broker.publish("a", n)
            broker.publish("b", n)
        yield broker


def test_the_second_time_only_what_is_different_is_measured(broker):
    store = Counting(broker.store)
    backlog = Backlog(store, PatternSet(["a"]))

    assert backlog.measure(0, 20)[0] == 10
    broker.publish("a", 10)
    assert backlog.measure(4, 21)[0] == 9
    assert backlog.measure(4, 21) == backlog.measure(4, 21)

    assert store.looked == [(0, 20), (0, 4), (20, 21)]


def test_messages_and_bytes_are_those_that_the_log_has(broker):
    wanted = PatternSet(["a"])
    backlog = Backlog(broker.store, wanted)

    for cursor, next in [(0, 5), (3, 20), (7, 20), (2, 20), (2, 10), (20, 20)]:
        exact = broker.store.measure(wanted, cursor, next)

        assert backlog.measure(cursor, next) == (exact.messages, exact.bytes)


@pytest.mark.parametrize("near", [1000, 0])
def test_a_cursor_that_goes_through_a_batch_leaves_nothing(broker, monkeypatch, near):
    monkeypatch.setattr("zstreampub.consumers.backlog._NEAR", near)
    broker.publish("c", "before")
    first, next = broker.publish_many("c", ["x" * n for n in range(20)], keys=["k"] * 20)
    backlog = Backlog(broker.store, PatternSet(["c"]))

    found = [backlog.measure(cursor, next) for cursor in range(first, next + 1)]
    broker.publish("c", "after")
    found.append(backlog.measure(next, next + 1))

    assert [messages for messages, _ in found] == [*range(20, -1, -1), 1]
    assert [size for _, size in found[:-1]] == sorted((size for _, size in found[:-1]), reverse=True)
    assert found[-2:] == [(0, 0), (1, broker.store.get(next).size)]


def test_after_a_removal_all_is_measured_again(broker):
    wanted = PatternSet(["a"])
    backlog = Backlog(broker.store, wanted)
    backlog.measure(0, 20)

    broker.store.trim(wanted, 10)

    assert backlog.measure(0, 20)[0] == 5


def test_a_removal_meanwhile_is_noticed(broker):
    wanted = PatternSet(["a"])
    store = Counting(broker.store)
    backlog = Backlog(store, wanted)
    backlog.measure(0, 20)

    store.before = lambda: broker.store.trim(wanted, 10)

    assert backlog.measure(4, 20)[0] == 5
