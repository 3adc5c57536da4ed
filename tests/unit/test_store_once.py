"""The laws of a store about publishing once, one class each: ids, expected offsets, what a full store takes."""

import time

import pytest

from tests.store_tools import EVERYTHING, Stores, contents, read_all
from zstreampub.errors import DuplicateId, LimitExceeded, NextMismatch, StoreFull
from zstreampub.message import Batch
from zstreampub.settings import Settings
from zstreampub.store import Append


@pytest.fixture(params=["memory", "lmdb"])
def stores(request, tmp_path):
    stores = Stores(request.param, tmp_path / "store")
    yield stores
    stores.close_all()


@pytest.fixture
def opened(stores):
    return stores.open()


@pytest.fixture
def store(opened):
    return opened[0]


@pytest.fixture
def follower(opened):
    return opened[1]


def batch(topic, *ids):
    return Batch.of(topic, [f"{topic} {id}" for id in ids], ids=list(ids))


def offsets(store):
    return [offset for offset, _, _ in contents(read_all(store)[0])]


class TestAnIdIsStoredOnce:
    def test_a_repeat_gets_the_offset_of_the_original(self, store, follower):
        original = follower.append(batch("a", "x"))
        follower.publish("a", "between")

        repeat = follower.append(batch("a", "x"))

        assert repeat.firsts == original.firsts == [0]
        assert repeat.duplicate and not original.duplicate
        assert offsets(store) == [0, 1]

    def test_text_and_its_bytes_are_one_id(self, follower):
        follower.append(batch("a", "x"))

        assert follower.append(batch("a", b"x")).duplicate

    def test_topics_do_not_share_ids(self, store, follower):
        appends = [follower.append(batch(topic, "x")) for topic in "ab"]

        assert [append.firsts for append in appends] == [[0], [1]]
        assert not appends[1].duplicate

    def test_also_if_both_are_in_one_group(self, store, follower):
        original, repeat = follower.append_all([Append([batch("a", "x")]), Append([batch("a", "x")])])

        assert (original.firsts, original.duplicate) == ([0], False)
        assert (repeat.firsts, repeat.duplicate) == ([0], True)
        assert offsets(store) == [0]

    def test_also_if_both_are_in_one_append(self, store, follower):
        append = follower.append(batch("a", "x"), batch("b", "x"), batch("a", "x"))

        assert (append.firsts, append.repeats, append.duplicate) == ([0, 1, 0], {2}, False)
        assert [one.topic for one in append.stored()] == ["a", "b"]
        assert offsets(store) == [0, 1]

    def test_a_batch_of_repeats_in_a_row_is_a_repeat(self, store, follower):
        follower.append(batch("a", "w", "x", "y", "z"))

        repeat = follower.append(batch("a", "x", "y"))

        assert (repeat.firsts, repeat.duplicate) == ([1], True)

    def test_an_append_may_mix_repeats_with_what_is_new(self, store, follower):
        follower.append(batch("a", "x", "y"))

        append = follower.append(batch("b", 'new'), batch("a", "x", "y"), Batch.of("a", [1, 2]), batch("a", "x"))

        assert (append.firsts, append.repeats, append.duplicate) == ([2, 0, 3, 0], {1, 3}, False)
        assert [one.first for one in append.stored()] == [2, 3]
        assert offsets(store) == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("ids, originals", [
        (("x", "new"), [0, None]), (("new", "x"), [None, 0]), (("y", "x"), [1, 0]), (("x", "z"), [0, 3]),
        (("x", "x"), [0, 0]), (("new", "new"), [None, None]), (("x", None), [0, None])])
    def test_a_batch_that_repeats_in_part_is_refused(self, store, follower, ids, originals):
        follower.append(batch("a", "x", "y"))
        follower.append(batch("b", "x"), batch("a", "z"))

        append = follower.append(batch("c", "untold"), batch("a", *ids))

        assert isinstance(append.error, DuplicateId)
        assert append.error.offsets == originals
        assert append.firsts is None
        assert offsets(store) == [0, 1, 2, 3]
        assert not follower.append(batch("c", "untold")).duplicate
        assert [topic["topic"] for topic in store.topics(EVERYTHING)] == ["a", "b", "c"]

    def test_messages_without_an_id_never_repeat(self, store, follower):
        for _ in range(2):
            assert not follower.append(batch("a", None, None)).duplicate

        assert follower.append(batch("a", None, "x"), batch("a", None)).firsts == [4, 6]

    def test_the_sequence_of_a_producer_comes_first(self, store, follower):
        original = follower.append(batch("a", "x"), batch("a", "y"), producer=b"p", sequence=1)

        retry = follower.append(batch("a", "x"), batch("a", "y"), producer=b"p", sequence=1)
        other = follower.append(batch("a", "x"), producer=b"p", sequence=2)
        again = follower.append(batch("a", "x"), producer=b"p", sequence=2)

        assert retry.firsts == original.firsts and retry.duplicate
        assert other.firsts == again.firsts == [0]
        assert other.duplicate and again.duplicate

    def test_a_repeat_does_not_hold_up_what_else_the_append_carries(self, store, follower):
        follower.append(batch("a", "x"))

        append = follower.append(batch("a", "x"), changes=[b"c"], records={b"k": b"v"})

        assert (append.firsts, append.repeats, append.duplicate) == ([0], {0}, False)
        assert store.journal() == [(0, b"c")]
        assert store.records(b"") == [(b"k", b"v")]

    def test_what_was_trimmed_away_is_not_stored_again(self, store, follower):
        follower.append(batch("a", "x"))
        store.trim(EVERYTHING, 1)

        assert follower.append(batch("a", "x")).firsts == [0]
        assert store.bounds() == (1, 1)

    def test_so_many_ids_are_remembered(self, stores):
        _, follower = stores.open(Settings(id_window_messages=3))
        for id in "abcd":
            follower.append(batch("t", id))

        assert [follower.append(batch("t", id)).firsts for id in "bcda"] == [[1], [2], [3], [4]]
        assert [follower.append(batch("t", id)).firsts for id in "cdab"] == [[2], [3], [4], [5]]

    def test_so_long_is_an_id_remembered(self, stores, monkeypatch):
        _, follower = stores.open(Settings(id_window_s=10))
        clock = [time.time_ns()]
        monkeypatch.setattr(time, "time_ns", lambda: clock[0])
        firsts = []
        for seconds in (0, 9, 2, 9, 2):
            clock[0] += seconds * 10**9
            firsts += follower.append(batch("t", "x")).firsts

        assert firsts == [0, 0, 1, 1, 2]

    def test_the_operator_sees_how_many(self, stores):
        store, follower = stores.open(Settings(id_window_messages=3))
        follower.append(batch("t", *"abcde"), changes=[b"c"] * 2)

        assert (store.stats()["ids"], store.stats()["journal"]) == (3, 2)

    def test_none_is_remembered_if_so_set(self, stores):
        _, follower = stores.open(Settings(id_window_messages=0))

        assert [follower.append(batch("t", *ids)).firsts for ids in ("x", "x", "yy")] == [[0], [1], [2]]


class TestAnExpectedOffset:
    def test_the_right_one_goes_in(self, store, follower):
        follower.append(Batch.of("a", [1, 2]), Batch.of("b", [3]))

        append = follower.append(Batch.of("a", [4]), expected_next={"a": 2, "b": 3, "new": 0})

        assert append.firsts == [3]

    @pytest.mark.parametrize("expected, next", [({"a": 1}, 2), ({"a": 0}, 2), ({"b": 3, "a": 3}, 2), ({"new": 3}, 0)])
    def test_a_wrong_one_does_not(self, store, follower, expected, next):
        follower.append(Batch.of("a", [1, 2]), Batch.of("b", [3]))

        append = follower.append(Batch.of("a", [4]), Batch.of("new", [5]), expected_next=expected, changes=[b"c"],
                                 records={b"k": b"v"}, producer=b"p", sequence=1)

        assert isinstance(append.error, NextMismatch)
        assert append.error.next == next and append.error.topic in expected
        assert offsets(store) == [0, 1, 2]
        assert (store.journal(), store.records(b"")) == ([], [])
        assert not follower.append(Batch.of("a", [4]), producer=b"p", sequence=1).duplicate

    def test_of_two_that_expect_the_same_one_goes_in(self, store, follower):
        appends = follower.append_all([Append([Batch.of(topic, [at])], expected_next={topic: 0})
                                       for at in range(3) for topic in "ab"])

        assert [append.firsts for append in appends[:2]] == [[0], [1]]
        assert [append.error.next for append in appends[2:]] == [1, 2, 1, 2]

    def test_each_may_expect_the_one_before(self, store, follower):
        appends = follower.append_all([Append([Batch.of("b", [0])])] + [
            Append([Batch.of("a", [at])], expected_next={"a": at + 1 if at else 0}) for at in range(5)])

        assert [append.firsts for append in appends] == [[at] for at in range(6)]

    def test_it_stays_when_all_was_trimmed_away(self, store, follower):
        follower.append(Batch.of("a", [1, 2]))
        store.trim(EVERYTHING, 2)

        assert follower.append(Batch.of("a", [4]), expected_next={"a": 2}).firsts == [2]

    def test_a_repeated_id_is_told_before_it_is_looked_at(self, store, follower):
        for _ in range(2):
            assert follower.append(batch("a", "x"), expected_next={"a": 0}).firsts == [0]

    def test_an_append_without_batches_may_expect_too(self, store, follower):
        follower.append(Batch.of("a", [1]))

        right, wrong = follower.append_all(
            [Append(changes=[b"%d" % next], expected_next={"a": next}) for next in (1, 2)])

        assert right.error is None and isinstance(wrong.error, NextMismatch)
        assert store.journal() == [(0, b"1")]


class TestAFullStore:
    @pytest.fixture
    def full(self, stores):
        store, follower = stores.open(Settings(max_store_bytes=1 << 20))
        follower.append(batch("a", "first"))
        while follower.append(Batch.of("a", [b"x" * 20_000])).error is None:
            pass
        return store, follower

    def big(self, *ids):
        return Batch.of("a", [b"x" * 50_000 for _ in ids], ids=list(ids))

    def test_goes_on_taking_what_brings_no_messages(self, full):
        store, follower = full

        appends = [Append(changes=[b"c%d" % at], records={b"k": b"%d" % at}) for at in range(100)]
        appends[50:50] = [Append([self.big("new")], changes=[b"none"])]
        follower.append_all(appends)

        assert [type(append.error) for append in appends if append.error is not None] == [StoreFull]
        assert [change for _, change in store.journal()] == [b"c%d" % at for at in range(100)]
        assert store.records(b"") == [(b"k", b"99")]

    def test_remembers_nothing_of_what_it_refused(self, full):
        store, follower = full
        _, end = store.bounds()

        refused = follower.append_all([
            Append([self.big("x")]), Append([self.big("x")]), Append([self.big("x", "y")]),
            Append([self.big("z")], expected_next={"a": end + 1}), Append([self.big("z")], expected_next={"a": end})])
        store.trim(EVERYTHING, end)

        assert {type(append.error) for append in refused} <= {StoreFull, NextMismatch}
        assert {append.error.next for append in refused if isinstance(append.error, NextMismatch)} <= {end}
        assert not follower.append(self.big("x"), expected_next={"a": end}).duplicate
        assert follower.append(self.big("y", "z")).firsts == [end + 1]

    def test_a_repeat_of_what_was_stored_keeps_its_answer(self, full):
        _, follower = full

        new, repeat = follower.append_all([Append([self.big("new")]), Append([batch("a", "first")])])

        assert isinstance(new.error, StoreFull)
        assert repeat.firsts == [0] and repeat.duplicate


def test_an_id_that_was_refused_with_its_topic_may_come_again(stores):
    _, follower = stores.open(Settings(max_topics=1))
    appends = follower.append_all([Append([batch("a", "x")]), Append([batch("a", "y"), batch("b", "x")]),
                                   Append([batch("a", "y")])])

    assert isinstance(appends[1].error, LimitExceeded)
    assert appends[2].firsts == [1] and not appends[2].duplicate
