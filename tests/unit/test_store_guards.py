"""Law 11 of a store: what is guarded is not removed by retention, up to ``keep_factor`` times the limit."""

import gevent
import pytest

from tests.store_tools import DEADLINE_S, EVERYTHING, PLENTY, Stores, contents, read_all
from zstreampub.errors import HeldByConsumer
from zstreampub.message import Batch
from zstreampub.settings import Retention, Settings
from zstreampub.store import Append, Guard
from zstreampub.topics import PatternSet


@pytest.fixture(params=["memory", "lmdb"])
def stores(request, tmp_path):
    stores = Stores(request.param, tmp_path / "store")
    yield stores
    stores.close_all()


def guard(name, first, *patterns):
    return Guard(name, PatternSet(patterns or [">"]), first)


def fill(follower, *topics):
    """Append a batch of one message for each of *topics*, all in one commit each."""
    appends = follower.append_all([Append([Batch.of(topic, [at])]) for at, topic in enumerate(topics)])
    return [append.error for append in appends]


def offsets(store, topic=None):
    return [offset for offset, name, _ in contents(read_all(store, trims=store.trim_mark())[0])
            if topic in (None, name)]


def wait_for(condition):
    """Wait until ``condition()``; retention looks every few milliseconds."""
    with gevent.Timeout(DEADLINE_S):
        while not condition():
            gevent.sleep(0.002)


def open_with(stores, *rules, guards=(), **settings):
    store, follower = stores.open(Settings(retention=rules, retention_interval_s=0.01, **settings))
    store.guard(guards)
    return store, follower


class TestWhatIsGuardedStays:
    def test_until_the_guard_moves_on(self, stores):
        store, follower = open_with(stores, Retention(max_messages=5), guards=[guard("c", 3)])
        fill(follower, *"a" * 15)
        wait_for(lambda: offsets(store) == list(range(3, 15)))

        store.guard([guard("c", 7)])
        wait_for(lambda: offsets(store) == list(range(7, 15)))
        store.guard([guard("c", 12)])

        wait_for(lambda: offsets(store) == list(range(10, 15)))

    def test_until_its_consumer_is_gone(self, stores):
        store, follower = open_with(stores, Retention(max_messages=5), guards=[guard("c", 0), guard("d", 8)])
        fill(follower, *"a" * 15)
        assert offsets(store) == list(range(15))

        store.guard([guard("d", 8)])

        wait_for(lambda: offsets(store) == list(range(8, 15)))

    def test_whole_if_only_a_part_of_a_batch_is_guarded(self, stores):
        store, follower = open_with(stores, Retention(max_messages=5), guards=[guard("c", 3)])
        for _ in range(5):
            follower.publish("a", 1, 2)

        wait_for(lambda: offsets(store) == list(range(2, 10)))

    def test_where_only_age_counts(self, stores):
        store, follower = open_with(stores, Retention(max_age_s=0.02), keep_factor=1e6, guards=[guard("c", 3)])
        fill(follower, *"a" * 6)
        wait_for(lambda: offsets(store) == [3, 4, 5])

        store.guard([guard("c", 5)])

        wait_for(lambda: offsets(store) == [5])

    def test_where_bytes_count(self, stores):
        size = Batch.of("a", [1]).size
        store, follower = open_with(stores, Retention(max_bytes=5 * size), guards=[guard("c", 3)])
        fill(follower, *"a" * 15)
        wait_for(lambda: offsets(store) == list(range(3, 15)))

        store.guard([])

        wait_for(lambda: offsets(store) == list(range(10, 15)))

    def test_but_other_topics_of_the_rule_go_as_if_it_had_gone(self, stores):
        store, follower = open_with(stores, Retention(max_messages=6), guards=[guard("c", 0, "held")])
        fill(follower, *["held", "free"] * 8)

        wait_for(lambda: offsets(store, "free") == [11, 13, 15])
        assert offsets(store, "held") == list(range(0, 16, 2))

    def test_and_topics_of_other_rules_do_not_care(self, stores):
        store, follower = open_with(stores, Retention("a", max_messages=2), Retention("b", max_messages=2),
                                    guards=[guard("c", 0, "a")])
        fill(follower, *"ab" * 4)

        wait_for(lambda: offsets(store) == [0, 2, 4, 5, 6, 7])

    def test_also_by_several_guards_of_which_one_moves(self, stores):
        store, follower = open_with(stores, Retention(max_messages=4), keep_factor=10.0,
                                    guards=[guard("stuck", 0, "a"), guard("moves", 0, "b")])
        fill(follower, *"ab" * 10)

        for first in range(1, 21):
            store.guard([guard("stuck", 0, "a"), guard("moves", first, "b")])

        wait_for(lambda: offsets(store, "b") == [17, 19])
        assert offsets(store, "a") == list(range(0, 20, 2))

    def test_but_not_from_an_explicit_trim(self, stores):
        store, follower = open_with(stores, Retention(max_messages=3), guards=[guard("c", 0)])
        fill(follower, *"a" * 10)

        assert store.trim(EVERYTHING, 8) == 8

        assert offsets(store) == [8, 9]
        fill(follower, *"a" * 4)
        store.guard([])
        wait_for(lambda: offsets(store) == [11, 12, 13])

    def test_when_a_guard_steps_back_what_is_left_is_held_again(self, stores):
        store, follower = open_with(stores, Retention(max_messages=3), guards=[guard("c", 4)])
        fill(follower, *"a" * 8)
        wait_for(lambda: offsets(store) == [4, 5, 6, 7])

        store.guard([guard("c", 0)])
        fill(follower, *"a" * 3)

        assert offsets(store) == list(range(4, 11))


class TestOverKeepFactorWithGap:
    def test_the_oldest_go_all_the_same(self, stores):
        store, follower = open_with(stores, Retention(max_messages=5), keep_factor=2.0, guards=[guard("c", 0)])
        fill(follower, *"a" * 30)

        wait_for(lambda: offsets(store) == list(range(20, 30)))

    def test_those_that_nobody_holds_go_first(self, stores):
        store, follower = open_with(stores, Retention(max_messages=4), keep_factor=2.0, guards=[guard("c", 0, "held")])
        fill(follower, *["free"] * 10, *["held"] * 8, *["free"] * 4)

        wait_for(lambda: len(offsets(store)) == 8)

        assert offsets(store) == [14, 15, 16, 17, 18, 19, 20, 21]

    def test_by_age(self, stores):
        store, follower = open_with(stores, Retention(max_age_s=0.01), keep_factor=2.0, guards=[guard("c", 0)])
        fill(follower, *"a" * 3)

        wait_for(lambda: offsets(store) == [])

    def test_a_reader_is_told(self, stores):
        store, follower = open_with(stores, Retention(max_messages=5), keep_factor=2.0, guards=[guard("c", 0)])
        mark = store.trim_mark()
        fill(follower, *"a" * 30)
        wait_for(lambda: len(offsets(store)) == 10)

        gap = store.read(0, EVERYTHING, 30, PLENTY, PLENTY, mark).gap

        assert (gap.first, gap.next, gap.count, gap.why) == (0, 20, 20, "retention")


class TestOverKeepFactorWithRefuse:
    def open(self, stores, *rules, **settings):
        return open_with(stores, *rules, keep_over="refuse", keep_factor=2.0, **settings)

    def fill_up(self, follower, topic="a"):
        """Publish until it is refused; return the error."""
        for _ in range(100):
            error, = fill(follower, topic)
            if error is not None:
                return error
        raise AssertionError("it is never refused")

    def test_appends_are_refused_and_told_who_holds_what(self, stores):
        store, follower = self.open(stores, Retention("a", max_messages=5), guards=[guard("billing", 2)])

        error = self.fill_up(follower)

        assert isinstance(error, HeldByConsumer)
        assert "'billing'" in str(error) and "'a'" in str(error) and "max_messages=5" in str(error)
        assert (error.consumer, error.rule, error.first) == ("billing", "a", 2)
        assert offsets(store) == list(range(2, 2 + error.messages))
        assert error.messages > 10

    def test_other_topics_and_appends_without_messages_go_through(self, stores):
        store, follower = self.open(stores, Retention("a", max_messages=5), guards=[guard("c", 0)])
        self.fill_up(follower)

        assert fill(follower, "b") == [None]
        assert follower.append(changes=[b"acked"]).error is None
        assert offsets(store, "a")

    def test_a_topic_of_the_rule_that_is_not_there_yet_is_refused_too(self, stores):
        store, follower = self.open(stores, Retention("t.>", max_messages=5), guards=[guard("c", 0)])
        self.fill_up(follower, "t.a")

        error, = fill(follower, "t.b")

        assert isinstance(error, HeldByConsumer)
        assert [topic["topic"] for topic in store.topics(EVERYTHING)] == ["t.a"]

    def test_a_publish_that_is_repeated_gets_its_answer(self, stores):
        _, follower = self.open(stores, Retention(max_messages=5), guards=[guard("c", 0)])
        original = follower.append(Batch.of("a", [1]), producer=b"p", sequence=1)
        self.fill_up(follower)

        retry = follower.append(Batch.of("a", [1]), producer=b"p", sequence=1)

        assert retry.error is None and retry.duplicate and retry.firsts == original.firsts

    def test_they_go_on_when_the_guard_has_moved(self, stores):
        store, follower = self.open(stores, Retention(max_messages=5), guards=[guard("c", 0)])
        self.fill_up(follower)

        store.guard([guard("c", 6)])

        wait_for(lambda: fill(follower, "a") == [None])

    def test_they_go_on_after_a_trim(self, stores):
        store, follower = self.open(stores, Retention(max_messages=5), guards=[guard("c", 0)])
        self.fill_up(follower)

        store.trim(EVERYTHING, 4)

        assert fill(follower, "a") == [None]

    def test_by_age_they_go_on_when_the_oldest_is_acknowledged(self, stores):
        store, follower = self.open(stores, Retention(max_age_s=0.2), guards=[guard("c", 0)])
        fill(follower, "a")
        wait_for(lambda: fill(follower, "a") != [None])

        store.guard([guard("c", PLENTY)])

        wait_for(lambda: fill(follower, "a") == [None])

    def test_nothing_that_is_guarded_is_lost_however_long_it_goes_on(self, stores):
        store, follower = self.open(stores, Retention(max_messages=5), guards=[guard("c", 0)])
        stored = 0
        for acked in range(0, 60, 3):
            self.fill_up(follower)
            kept = offsets(store)
            assert kept == list(range(kept[0], store.bounds()[1]))
            assert kept[0] <= acked
            stored = max(stored, len(kept))
            store.guard([guard("c", acked + 3)])
            wait_for(lambda: fill(follower, "a") == [None])

        assert stored <= 13


class TestAfterARestart:
    def test_retention_waits_for_the_guards_if_there_were_any(self, tmp_path):
        stores = Stores("lmdb", tmp_path / "store")
        settings = Settings(retention=(Retention(max_messages=3),), retention_interval_s=0.01, keep_factor=10.0)
        store, follower = stores.open(settings)
        store.guard([guard("c", 0)])
        fill(follower, *"a" * 10)
        stores.close(store)

        store, follower = stores.open(settings)
        for _ in range(10):
            fill(follower, "b")     # retention has its turn after each commit
        assert len(offsets(store)) == 20
        store.guard([guard("c", 4)])

        wait_for(lambda: offsets(store) == list(range(4, 20)))
        store.guard([])
        wait_for(lambda: offsets(store) == [17, 18, 19])
        stores.close(store)
        store, follower = stores.open(settings)
        fill(follower, *"b" * 10)
        wait_for(lambda: offsets(store) == [27, 28, 29])
        stores.close_all()
