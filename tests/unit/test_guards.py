"""Guards and limits, without a store: who holds what, what is free when a guard moves, and what a rule does then."""

import pytest

from zstreampub.settings import Retention
from zstreampub.store import Guard
from zstreampub.stores.choosers import Kept
from zstreampub.stores.guards import ENDLESS, Guards
from zstreampub.stores.retention import Limits, count_out, joined
from zstreampub.stores.state import Topic
from zstreampub.topics import PatternSet


def guard(name, first, *patterns):
    return Guard(name, PatternSet(patterns or [">"]), first)


class TestGuards:
    def test_without_any_nothing_is_held(self):
        assert Guards().first("a") == ENDLESS
        assert Guards().oldest("a") is None

    def test_the_one_that_is_furthest_behind_counts(self):
        guards = Guards()
        guards.replace([guard("c", 7, "a.*"), guard("d", 3, "a.b"), guard("e", 1, "b")])

        assert (guards.first("a.b"), guards.first("a.c"), guards.first("c")) == (3, 7, ENDLESS)
        assert guards.oldest("a.b").name == "d"

    def test_a_wildcard_does_not_hold_topics_of_the_system(self):
        guards = Guards()
        guards.replace([guard("c", 7)])

        assert guards.first("$dead.x") == ENDLESS

    def test_new_ones_take_the_place_of_all_earlier_ones(self):
        guards = Guards()
        guards.replace([guard("c", 7, "a")])
        assert guards.first("a") == 7

        guards.replace([guard("d", 5, "b")])

        assert (guards.first("a"), guards.first("b"), len(guards)) == (ENDLESS, 5, 1)

    @pytest.mark.parametrize("after, free", [
        ([guard("c", 3, "a"), guard("d", 9, "b")], []),
        ([guard("c", 5, "a"), guard("d", 9, "b")], [(3, 5)]),
        ([guard("c", 1, "a"), guard("d", 9, "b")], []),
        ([guard("d", 12, "b")], [(3, ENDLESS), (9, 12)]),
        ([guard("c", 5, "a.>"), guard("d", 9, "b")], [(3, ENDLESS)]),
        ([guard("d", 9, "b"), guard("c", 4, "a"), guard("e", 0, "b")], [(3, 4)]),
    ])
    def test_what_one_has_passed_may_be_free(self, after, free):
        guards = Guards()
        guards.replace([guard("c", 3, "a"), guard("d", 9, "b")])

        assert guards.replace(after) == free


class Log:
    """Batches of one rule, and walks over them as a store would do them."""

    def __init__(self, rule, *guards, **options):
        self.limits = Limits(rule, **options)
        self.guards = Guards()
        self.guard(*guards)
        self.topics = {}
        self.batches = []
        self.end = 0
        self.asked = 0

    def guard(self, *guards):
        for low, high in self.guards.replace(guards):
            self.limits.freed(low, high)

    def append(self, *topics):
        for name in topics:
            topic = self.topics.setdefault(name, Topic(len(self.topics) + 1, name, limits=self.limits))
            topic.add(self.end, 1, 10)
            self.batches.append(Kept(topic, self.end, 1, 10, self.end))
            self.end += 1

    def retain(self, now_us=0, most=100):
        """Walk until nothing is to be done; return the offsets that are left."""
        for _ in range(100):
            make = self.limits.walk(self.guards, now_us)
            if make is None:
                self.limits.judge(now_us)
                return [batch.first for batch in self.batches]
            self.step(make(), most)
        raise AssertionError("retention does not come to an end")

    def step(self, chooser, most):
        gone, cursor, ended = [], self.end, True
        for batch in self.batches:
            if not chooser.start <= batch.first < chooser.stop:
                continue
            if len(gone) >= most:
                cursor, ended = batch.first, False
                break
            self.asked += 1
            goes = chooser.goes(batch)
            if goes is None:
                cursor = batch.first
                break
            if goes:
                gone.append(batch)
        self.batches = [batch for batch in self.batches if batch not in gone]
        for batch in gone:
            batch.topic.become(batch.topic.without([batch], 1))
        count_out(gone)
        chooser.walked(cursor, ended)


class TestLimits:
    @pytest.mark.parametrize("most", [1, 3, 100])
    def test_what_is_held_stays_and_the_rest_goes_as_if_it_had_gone(self, most):
        log = Log(Retention(max_messages=4), guard("c", 2, "a"))
        log.append(*"abababab")

        assert log.retain(most=most) == [2, 4, 5, 6, 7]
        log.append(*"bbbb")
        assert log.retain(most=most) == [2, 4, 6, 8, 9, 10, 11]

    def test_it_is_not_walked_over_again_while_it_is_held(self):
        log = Log(Retention(max_messages=4), guard("c", 0, "a"), keep_factor=1000.0)
        log.append(*"a" * 500)
        log.retain()
        log.asked = 0

        for _ in range(100):
            log.append("b")
            log.retain()

        assert log.asked <= 300

    def test_nor_because_another_guard_moves(self):
        log = Log(Retention(max_messages=4), guard("stuck", 0, "a"), guard("moves", 0, "b"), keep_factor=1000.0)
        log.append(*"ab" * 250)
        log.retain()
        log.asked = 0

        for first in range(500):
            log.guard(guard("stuck", 0, "a"), guard("moves", first, "b"))
            log.retain()

        assert log.asked <= 1500
        assert [batch.first for batch in log.batches if batch.topic.name == "b"] == [497, 499]

    def test_a_stretch_that_is_free_waits_until_it_is_too_much(self):
        log = Log(Retention(max_messages=4), guard("c", 0))
        log.append(*"a" * 8)
        assert log.retain() == list(range(8))

        for batch in log.batches[4:]:
            batch.topic.become(batch.topic.without([batch], 1))     # as an explicit trim does it
        count_out(log.batches[4:])
        del log.batches[4:]
        log.guard()

        assert log.retain() == [0, 1, 2, 3]
        log.append("a")
        assert log.retain() == [1, 2, 3, 8]

    def test_the_held_count_follows_what_is_removed_otherwise(self):
        log = Log(Retention(max_messages=2), guard("c", 0))
        log.append(*"a" * 6)
        log.retain()
        assert (log.limits.held.messages, log.limits.held.bytes, log.limits.held.first) == (4, 40, 0)

        count_out([Kept(log.topics["a"], 1, 1, 10, 1)])
        assert (log.limits.held.messages, log.limits.held.bytes) == (3, 30)
        count_out([Kept(log.topics["a"], 5, 1, 10, 5)])
        assert log.limits.held.messages == 3
        count_out([Kept(log.topics["a"], 0, 3, 30, 0)])
        assert (log.limits.held.messages, log.limits.low) == (0, 4)

    def test_over_keep_factor_the_oldest_goes_all_the_same(self):
        log = Log(Retention(max_messages=4), guard("c", 0), keep_factor=2.0)
        log.append(*"a" * 11)

        assert log.retain() == list(range(3, 11))
        log.append("a")
        assert log.retain() == list(range(4, 12))

    def test_what_is_free_goes_before_what_is_held(self):
        log = Log(Retention(max_messages=4), guard("c", 0, "a"), guard("d", 0, "b"), keep_factor=2.0)
        log.append(*"aabb", *"aaaa")
        log.retain()

        log.guard(guard("c", 0, "a"))
        log.append("a")

        assert log.retain() == [0, 1, 4, 5, 6, 7, 8]

    def test_by_age_what_is_held_goes_later(self):
        log = Log(Retention(max_age_s=1e-6), guard("c", 0, "a"), keep_factor=4.0)
        log.append(*"abababab")

        assert log.retain(now_us=5) == [2, 4, 5, 6, 7]
        assert log.retain(now_us=8) == [4, 6, 7]
        assert log.retain(now_us=100) == []

    def test_refusing_begins_over_keep_factor_and_ends_when_there_is_room(self):
        log = Log(Retention(max_messages=4), guard("c", 3), keep_factor=2.0, keep_over="refuse")
        log.append(*"a" * 11)
        assert log.retain() == list(range(3, 11))
        assert not log.limits.refusing

        log.append("a")
        assert log.retain() == list(range(3, 12))
        assert log.limits.refusing
        error = log.limits.refusal(log.guards)
        assert (error.consumer, error.first, error.messages) == ("c", 3, 9)

        log.guard(guard("c", 5))
        assert log.retain() == list(range(5, 12))
        assert not log.limits.refusing

    def test_many_stretches_become_one(self, monkeypatch):
        monkeypatch.setattr("zstreampub.stores.retention.MOST_STRETCHES", 4)
        log = Log(Retention(max_messages=1), guard("c", 0), keep_factor=1000.0)
        log.append(*"a" * 40)
        log.retain()
        for low in range(0, 30, 3):
            log.limits.freed(low, low + 1)

        assert len(log.limits.held.free) <= 5
        assert log.limits.held.free[0].low == 0 and log.limits.held.free[-1].high == 28


def test_neighbours_of_one_topic_are_told_as_one():
    a, b = Topic(1, "a"), Topic(2, "b")
    removals = [Kept(a, 0, 2, 10, 0), Kept(a, 2, 1, 10, 0), Kept(b, 3, 1, 10, 0), Kept(a, 4, 1, 10, 0),
                Kept(a, 6, 1, 10, 0)]

    assert joined(removals) == [[a, 0, 3], [b, 3, 1], [a, 4, 1], [a, 6, 1]]
