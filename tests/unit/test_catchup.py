"""Catching up with a log that another process writes: what is found in snapshots is what the writer knows.

The writer's own environment lends its snapshots; a second process is in tests/integration/test_workers.py.
"""

import pytest

from tests.catching import Catching
from tests.store_tools import EVERYTHING, Stores, contents, read_all
from zstreampub.message import Batch
from zstreampub.settings import Retention, Settings
from zstreampub.store import Append
from zstreampub.stores import catchup, writer
from zstreampub.stores.records import PAGE_TOPICS
from zstreampub.stores.retention import HISTORY_STEPS
from zstreampub.topics import PatternSet


@pytest.fixture
def stores(tmp_path):
    stores = Stores("lmdb", tmp_path / "store")
    yield stores
    stores.close_all()


def publish(follower, *topics):
    """Append a batch of two messages with a key to each of *topics*, all in commits of their own."""
    for topic in topics:
        follower.publish(topic, topic, topic, keys=["k", topic])


def test_what_is_there_already_is_known_and_not_told(stores):
    store, follower = stores.open()
    publish(follower, "a", "b", "a")

    catching = Catching(store)

    catching.check()
    assert catching.catch_up()[0].batches == []


def test_what_is_appended_is_told_once_in_order(stores):
    store, follower = stores.open()
    publish(follower, "a")
    catching = Catching(store)

    for topics in (("a", "b"), ("c",), (), ("a", "c", "d.e")):
        publish(follower, *topics)
        catching.catch_up()
        catching.check()

    assert contents(catching.batches) == contents(read_all(store, cursor=2)[0])
    assert not any(step.torn for step in catching.steps)


def test_a_long_stretch_is_taken_in_steps_of_a_bounded_size(stores, monkeypatch):
    monkeypatch.setattr(catchup, "STEP_BYTES", 1000)
    store, follower = stores.open()
    catching = Catching(store)
    for number in range(20):
        follower.publish("a", b"x" * 400, number)

    steps = catching.catch_up()

    assert [len(step.batches) for step in steps] == [3, 3, 3, 3, 3, 3, 2]
    catching.check()


def test_the_tail_is_cut_where_the_writer_cuts_it(stores, monkeypatch):
    monkeypatch.setattr(writer, "SEGMENT_BATCHES", 3)
    store, follower = stores.open()
    catching = Catching(store)

    for _ in range(8):
        publish(follower, "a", "b")
        catching.catch_up()
        catching.check()


def test_what_was_seen_and_is_trimmed_is_counted_and_no_tear(stores):
    store, follower = stores.open()
    catching = Catching(store)
    publish(follower, "a", "b", "a", "c")
    catching.catch_up()

    store.trim(PatternSet(["a"]), 6)
    publish(follower, "a")
    catching.catch_up()

    catching.check()
    assert not catching.steps[-1].torn
    assert len(catching.steps[-1].batches) == 1


@pytest.mark.parametrize("topics", [("a", "b", "new", "a"), ("new", "a", "b", "a"), ("a", "a", "b", "new")])
def test_what_is_trimmed_before_it_was_seen_is_a_tear(stores, topics):
    store, follower = stores.open()
    catching = Catching(store)
    publish(follower, *topics)

    store.trim(PatternSet(["new"]), 8)

    step, = catching.catch_up()
    catching.check()
    assert step.torn and step.end == 8


def test_a_tear_is_seen_though_the_single_trims_are_forgotten(stores):
    store, follower = stores.open()
    publish(follower, "a")
    catching = Catching(store)
    publish(follower, "late")
    for _ in range(HISTORY_STEPS + 2):
        follower.append(Batch.of("b", [1]))
        store.trim(EVERYTHING, store.bounds()[1])

    steps = catching.catch_up()

    catching.check()
    assert any(step.torn for step in steps)
    assert catching.state.first == store.bounds()[1]


def test_trims_that_are_forgotten_and_took_nothing_new_are_no_tear(stores):
    store, follower = stores.open()
    follower.append_all([Append([Batch.of("a", [number])]) for number in range(HISTORY_STEPS + 10)])
    catching = Catching(store)

    for next in range(1, HISTORY_STEPS + 5):
        store.trim(PatternSet(["a"]), next)
    publish(follower, "b")
    step, = catching.catch_up()

    catching.check()
    assert not step.torn and len(step.batches) == 1


def test_where_trims_are_forgotten_topics_that_they_did_not_touch_keep_their_counters(stores):
    store, follower = stores.open()
    follower.append_all([Append([Batch.of("t.0", [number])]) for number in range(HISTORY_STEPS + 2)])
    follower.append_all([Append([Batch.of(f"t.{number}", [1])]) for number in range(1, PAGE_TOPICS + 1)])
    stores.close(store)
    store, follower = stores.open()
    publish(follower, f"t.{PAGE_TOPICS}")       # alone in its page of counters, which is not written now
    catching = Catching(store)
    for next in range(1, HISTORY_STEPS + 3):
        store.trim(PatternSet(["t.0"]), next)

    catching.catch_up()

    catching.check()


def test_counters_are_the_writers_while_retention_and_compaction_remove(stores):
    rules = (Retention("few.>", max_messages=5), Retention("table.>", newest_per_key=True))
    store, follower = stores.open(Settings(retention=rules, retention_interval_s=0.01))
    catching = Catching(store)

    for number in range(60):
        publish(follower, f"few.{number % 3}", "table.a", "other")
        if number % 7 == 0:
            catching.catch_up()
    follower.wait(lambda: store._state.topics.limits[0].messages <= 6)
    catching.catch_up()

    catching.check()
    assert {topic.name for topic in catching.state.topics.all} == {"few.0", "few.1", "few.2", "table.a", "other"}


def test_a_store_that_was_left_unclean_is_loaded_as_the_writer_loads_it(stores):
    store, follower = stores.open()
    publish(follower, "a", "b", "a")
    store.trim(PatternSet(["a"]), 2)
    stores.close(store)
    store, follower = stores.open(Settings(durability="relaxed"))
    publish(follower, "c", "a")

    catching = Catching(store)

    catching.check()
