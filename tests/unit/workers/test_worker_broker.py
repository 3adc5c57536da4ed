"""The broker of a worker, on a store in memory whose follower the test can leave out."""

import gevent
import pytest

from tests.store_tools import DEADLINE_S
from zstreampub.errors import InvalidOption, Moved, NotWriter, OffsetOutOfRange, ServerDraining
from zstreampub.message import Batch
from zstreampub.settings import Settings
from zstreampub.store import Append, Gap
from zstreampub.stores import open_store
from zstreampub.topics import PatternSet
from zstreampub.workers import broker as workers_broker
from zstreampub.workers.broker import WorkerBroker
from zstreampub.workers.service import SERVED, WorkerService

WRITER = ["tcp://127.0.0.1:4242"]


class Log:
    """A store and the broker that follows it, unless it is left out."""

    def __init__(self):
        self.store = open_store("memory:")
        self.broker = WorkerBroker(self.store, Settings(), WRITER)

    def append(self, topic, *payloads, told=True):
        """Append a batch; *told*: the broker hears of it."""
        done = gevent.event.Event()
        if not told:
            self.store.follow(lambda _: done.set())
        self.store.append(Append([Batch.of(topic, payloads)], lambda _: done.set()))
        assert done.wait(DEADLINE_S)
        if not told:
            self.store.follow(self.broker._fan_out.deliver)

    def trim(self, topic, next):
        self.store.trim(PatternSet([topic]), next)


@pytest.fixture
def log():
    log = Log()
    yield log
    log.broker.close()


def take(subscription, count):
    """Return the next *count* items: gaps, and messages as (offset, payload)."""
    items = []
    with gevent.Timeout(DEADLINE_S):
        while len(items) < count:
            item = next(subscription)
            items.append(item if isinstance(item, Gap) else (item.offset, item.payload))
    return items


def test_what_the_store_tells_is_fanned_out_and_what_is_there_already_is_replayed(log):
    log.append("a", "x")
    old, new = log.broker.subscribe("a", start="earliest"), log.broker.subscribe("a")

    log.append("a", "y")

    assert take(old, 2) == [(0, "x"), (1, "y")]
    assert take(new, 1) == [(1, "y")]


def test_at_a_tear_live_subscriptions_read_from_the_log_what_is_left_and_are_told_the_gap(log):
    subscription, other = log.broker.subscribe("a"), log.broker.subscribe("b")
    log.append("a", "seen")
    for payload in ("lost", "kept"):
        log.append("a", payload, told=False)
    log.trim("a", 2)

    log.store.torn(3)
    log.append("a", "later")
    log.append("b", "other")

    assert take(subscription, 4) == [(0, "seen"), Gap(1, 2, 1, "retention"), (2, "kept"), (3, "later")]
    assert take(other, 1) == [(4, "other")]
    assert subscription.state == "live"


def test_who_was_only_just_behind_a_tear_does_not_pass_over_it(log):
    log.append("a", "seen")
    log.append("a", "lost", told=False)
    log.trim("a", 2)
    log.store.torn(2)
    log.append("a", "later")

    subscription = log.broker.subscribe("a", start=1)

    assert take(subscription, 2) == [Gap(1, 2, 1, "retention"), (2, "later")]


def test_with_filters_a_tear_is_told_too(log):
    subscription = log.broker.subscribe("a", filters={"where": {"payload": {"ne": "left out"}}})
    log.append("a", "left out")
    log.append("a", "lost", told=False)
    log.trim("a", 2)

    log.store.torn(2)
    log.append("a", "later")

    assert take(subscription, 2) == [Gap(1, 2, 1, "retention"), (2, "later")]


def test_a_start_that_is_ahead_is_waited_for(log):
    opening = gevent.spawn(log.broker.subscribe, "a", start=2)
    gevent.idle()

    for payload in "xyz":
        log.append("a", payload)

    with gevent.Timeout(DEADLINE_S):
        assert take(opening.get(), 1) == [(2, "z")]


def test_a_start_that_does_not_come_is_out_of_range(log, monkeypatch):
    monkeypatch.setattr(workers_broker, "_PATIENCE_S", 0.01)

    with pytest.raises(OffsetOutOfRange):
        log.broker.subscribe("a", start=1)


@pytest.mark.parametrize("options", [{"consumer": "c"}, {"policy": "block"}])
def test_what_only_the_writer_can_do_is_refused_with_its_endpoint(log, options):
    with pytest.raises(NotWriter, match=r"127\.0\.0\.1:4242") as error:
        log.broker.subscribe("a", **options)

    assert error.value.writer == WRITER


def test_other_options_are_checked_as_ever(log):
    with pytest.raises(InvalidOption):
        log.broker.subscribe("a", policy="shout")


def test_it_lets_go_of_the_newest_that_can_go_elsewhere(log):
    stock = log.broker.subscribe("a")
    first, second, third = [log.broker.subscribe("a", movable=True) for _ in range(3)]
    second.close()

    log.store.asked(1)
    assert (stock.ended, first.ended, third.ended) == (False, False, True)
    assert isinstance(third.error, Moved) and third.error.resume == 0

    log.store.asked(5)
    assert (stock.ended, first.ended) == (False, True)


def test_draining_ends_all_subscriptions(log):
    subscription = log.broker.subscribe("a")

    log.broker.drain()

    with pytest.raises(ServerDraining):
        next(subscription)


def test_every_method_that_is_not_served_is_refused(log):
    service = WorkerService(log.broker)
    others = [name for name in dir(service) if not name.startswith("_") and name not in SERVED]

    assert {"publish", "publish_many", "append", "ack", "consumers", "cancel", "scheduled"} <= set(others)
    for name in others:
        with pytest.raises(NotWriter, match=f"^{name} "):
            getattr(service, name)()
