"""Compaction: what goes of a batch, when a pass begins, and what the two stores do with it."""

import time

import gevent
import pytest

from tests.store_tools import DEADLINE_S, EVERYTHING, PLENTY, Stores, contents, read_all
from zstreampub.message import Batch
from zstreampub.settings import Retention, Settings
from zstreampub.store import Append, Guard
from zstreampub.stores import compaction
from zstreampub.stores.compaction import Compaction, Pass, pack_clean, parts, removed, unpack_clean
from zstreampub.stores.guards import Guards
from zstreampub.stores.keys import key_digest, keys_of
from zstreampub.stores.retention import Limits
from zstreampub.stores.state import Topic
from zstreampub.topics import PatternSet

A, B = Topic(1, "a"), Topic(2, "b")


def sealed(first, keys, payloads=None, topic="a", time_us=0):
    batch = Batch.of(topic, payloads or ["x"] * len(keys), keys=keys)
    batch.seal(first, time_us)
    return batch


def guarding(*guards):
    made = Guards()
    made.replace([Guard(name, PatternSet([pattern]), first) for name, first, pattern in guards])
    return made


def swept(*batches, guards=(), deleted_before_us=0, current=None):
    """Return a pass that has gathered *batches*, of topic "a", and what stays of each."""
    current = current or Pass(frozenset([1]), 10, 0, 0, 1000, deleted_before_us)
    for batch in batches:
        current.gather(A, batch)
        current.cursor = batch.next
    current.sweep()
    return current, [current.stays(A, batch, guarding(*guards)) for batch in batches]


class TestWhatGoes:
    def test_what_has_a_newer_one_in_the_same_batch_or_a_later_one(self):
        _, stays = swept(sealed(0, ["k", "l", "k", "m"]), sealed(4, ["l"]))

        assert stays == [[[2, 4]], None]

    def test_what_has_none_stays_and_its_batch_is_not_touched(self):
        _, stays = swept(sealed(0, ["k", "l"]), sealed(2, ["m"]))
        assert stays == [None, None]

    def test_messages_without_a_key_stay(self):
        _, stays = swept(sealed(0, [None, "k", None, "k"]), Batch.of("a", [None]), sealed(5, [None, None]))

        assert stays == [[[0, 1], [2, 4]], None, None]

    def test_text_and_its_bytes_are_one_key(self):
        _, stays = swept(sealed(0, ["é", b"k"]), sealed(2, ["é".encode(), "k"]))

        assert stays == [[], None]

    def test_keys_of_other_topics_do_not_count(self):
        current = Pass(frozenset([1, 2]), 10, 0, 0, 1000, 0)
        current.gather(A, sealed(0, ["k"]))
        current.gather(B, sealed(1, ["k"], topic="b"))
        current.sweep()

        assert current.stays(A, sealed(0, ["k"]), guarding()) is None

    def test_a_collision_of_digests_loses_nothing(self, monkeypatch):
        monkeypatch.setattr("zstreampub.stores.keys.blake2b", lambda *_, **__: Digest())
        assert key_digest(1, "k") == key_digest(1, "l")

        assert swept(sealed(0, ["k"]), sealed(1, ["l"]))[1] == [None, None]


class Digest:
    def digest(self):
        return b"\1" * 8


class TestDeletions:
    def test_one_stays_for_its_time_and_then_goes(self):
        young, old = sealed(0, ["k", "l"], [1, None], time_us=50), sealed(2, ["m", "n"], [None, 1], time_us=10)

        current, stays = swept(young, old, deleted_before_us=20)

        assert stays == [None, [[1, 2]]]
        assert current.oldest_deletion_us == 50

    def test_one_that_is_superseded_goes_at_once(self):
        _, stays = swept(sealed(0, ["k"], [None], time_us=50), sealed(1, ["k"], time_us=60), deleted_before_us=20)

        assert stays == [[], None]

    def test_nil_without_a_key_deletes_nothing(self):
        _, stays = swept(sealed(0, [None, "k"], [None, 1]), deleted_before_us=20)

        assert stays == [None]

    def test_bytes_that_only_look_like_nil_are_no_deletion(self):
        _, stays = swept(sealed(0, ["k", "l"], [b"\xc0", b"a\xc0"]), deleted_before_us=20)

        assert stays == [None]

    def test_one_stays_while_what_it_deleted_is_held_though_the_guard_moves_meanwhile(self):
        old, deletion = sealed(0, ["k"]), sealed(1, ["k"], [None])

        current, stays = swept(old, deletion, guards=[("c", 0, "a")], deleted_before_us=20)

        assert stays == [None, None]
        assert current.stays(A, deletion, guarding()) is None
        assert current.held == {"a": 0}


class TestWhatIsHeld:
    def test_it_stays_and_the_rest_goes(self):
        current, stays = swept(sealed(0, ["k"] * 6), guards=[("c", 3, "a")])

        assert stays == [[[3, 6]]]
        assert current.held == {"a": 3}

    def test_what_is_held_is_not_clean(self):
        one = made()
        one.begin([A], 6, 0)
        swept(sealed(0, ["k"] * 6), guards=[("c", 3, "a")], current=one.current)
        one.current.gathered = one.current.end

        assert one.swept()
        assert one.clean == 3


class TestParts:
    def test_each_is_a_batch_of_its_own_at_its_place(self):
        batch = Batch.of("a", ["x", "yy", "z", "w"], keys=["k", None, "l", "k"], ids=["1", "2", "3", "4"],
                         headers=[None, {"h": 1}, None, None])
        batch.seal(10, 7)

        cut = parts(batch, [[0, 2], [3, 4]])

        assert [(part.first, part.count, part.time_us) for part in cut] == [(10, 2, 7), (13, 1, 7)]
        assert [message for part in cut for message in part.messages()] == [
            message for message in batch.messages() if message.offset != 12]
        for part in cut:
            Batch.parse(part.packed).verify()

    def test_what_goes_is_counted_with_all_its_bytes(self):
        batch = sealed(10, ["k"] * 5)
        kept = parts(batch, [[1, 2], [4, 5]])

        gone = removed(A, batch, [[1, 2], [4, 5]], kept)

        assert [(one.first, one.count) for one in gone] == [(10, 1), (12, 2)]
        assert sum(one.size for one in gone) == batch.size - sum(part.size for part in kept)

    def test_of_a_batch_of_which_nothing_stays_there_is_none(self):
        batch = sealed(10, ["k"] * 5)

        assert parts(batch, []) == []
        assert [one[1:4] for one in removed(A, batch, [], [])] == [(10, 5, batch.size)]

    def test_keys_are_read_as_the_bytes_under_which_they_are_filed(self):
        assert keys_of(sealed(0, ["é", b"\xff", None])) == ["é".encode(), b"\xff", None]
        assert keys_of(Batch.of("a", [1])) is None
        assert keys_of(Batch.of("a", [1], ids=["x"])) is None


def made(**settings):
    return Compaction(Limits(Retention(newest_per_key=True)), Settings(**settings))


class TestWhenAPassBegins:
    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def due(self, one, guards=()):
        return one.due(0, guarding(*guards))

    def run(self, one, worked_s=0.0):
        one.begin([], 0, 0)
        one.worked(worked_s)
        one.current.sweep()
        one.swept()

    def test_not_while_nothing_comes(self):
        one = made()
        self.now += 1e6

        assert not self.due(one)

    @pytest.mark.parametrize("kept, new, due", [
        (compaction.LEAST_NEW, compaction.LEAST_NEW, True), (10, compaction.LEAST_NEW - 1, False),
        (100_000, 25_000, True), (100_000, 24_999, False)])
    def test_at_once_when_a_quarter_is_new_and_not_too_little(self, kept, new, due):
        one = made()
        one.limits.messages = kept
        one.limits.added = new

        assert self.due(one) is due

    def test_after_some_time_if_anything_is_new(self):
        one = made(retention_interval_s=2.0)
        one.limits.added = 1
        self.now += 119.0
        assert not self.due(one)

        self.now += 2.0

        assert self.due(one)

    def test_the_less_often_the_longer_it_takes(self):
        one = made()
        self.run(one, worked_s=10.0)
        one.limits.added = 1
        self.now += 999.0
        assert not self.due(one)

        self.now += 2.0

        assert self.due(one)

    def test_when_a_deletion_has_been_kept_long_enough(self):
        one = made(tombstone_s=5.0)
        one.begin([], 0, 0)
        one.current.oldest_deletion_us = 1_000_000
        one.current.sweep()
        one.swept()
        self.now += 61

        assert not one.due(5_999_999, guarding())
        self.now += 61
        assert one.due(6_000_000, guarding())

    def test_it_does_not_rest_while_more_comes_than_it_can_keep_up_with(self):
        one = made()
        assert not one.is_behind
        one.begin([A], 100, 0)
        one.limits.added = 4
        assert one.is_behind

        one.current.gather(A, sealed(0, ["k"] * 11))
        assert one.is_behind
        one.current.gather(A, sealed(11, ["k"]))

        assert not one.is_behind

    def test_when_a_guard_has_moved_past_what_it_held(self):
        one = made()
        one.begin([], 10, 0)
        one.current.held = {"a": 3, "b": 5}
        one.current.cursor = 10
        one.current.sweep()
        one.swept()
        self.now += 61
        assert not self.due(one, [("c", 3, "a"), ("d", 5, "b")])

        self.now += 61

        assert self.due(one, [("c", 3, "a"), ("d", 6, "b")])

    def test_after_a_restart_once_for_the_deletions_that_nobody_remembers(self):
        one = made()
        one.limits.messages = 5
        one.resume(10, 10)
        assert not self.due(one)

        self.now += 61

        assert self.due(one)


class TestStages:
    def test_more_keys_than_fit_into_memory_take_several(self, monkeypatch):
        monkeypatch.setattr(compaction, "MOST_KEYS", 3)
        current = Pass(frozenset([1]), 10, 0, 0, 1000, 0)
        current.gather(A, sealed(0, ["k", "l", "k"]))
        assert not current.is_full

        current.gather(A, sealed(3, ["m"]))

        assert current.is_full

    def test_each_begins_where_the_last_one_has_gathered(self):
        one = made()
        one.begin([A], 20, 0)
        one.current.cursor = 8
        one.current.sweep()
        assert (one.current.cursor, one.current.stop) == (0, 8)

        assert not one.swept()

        assert (one.current.gathering, one.current.cursor, one.current.stop) == (True, 8, 20)


class TestWhatIsClean:
    RULES = (Retention("a", newest_per_key=True), Retention("b"), Retention(">", newest_per_key=True))

    def test_it_is_kept_for_the_same_rules(self):
        ones = [made(), made()]
        ones[0].clean, ones[1].clean = 5, 7

        assert unpack_clean(pack_clean(ones, self.RULES), self.RULES, 2) == [5, 7]

    def test_under_other_rules_nothing_is(self):
        record = pack_clean([made(), made()], self.RULES)

        assert unpack_clean(record, self.RULES[1:], 1) == [0]
        assert unpack_clean(None, self.RULES, 2) == [0, 0]

    def test_a_broken_record_is_told(self):
        with pytest.raises(ValueError, match="compacted"):
            unpack_clean(b"\xc1", self.RULES, 2)


@pytest.fixture(params=["memory", "lmdb"])
def stores(request, tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "LOOKS", 0)
    monkeypatch.setattr(compaction, "LEISURE", 0)
    stores = Stores(request.param, tmp_path / "store")
    yield stores
    stores.close_all()


def offsets(store):
    return [offset for offset, *_ in contents(read_all(store, trims=store.trim_mark())[0])]


def wait_for(condition):
    with gevent.Timeout(DEADLINE_S):
        while not condition():
            gevent.sleep(0.002)


NEWEST = Retention("kv.>", newest_per_key=True)


def compacting(rule=NEWEST, **settings):
    return Settings(retention=(rule,), retention_interval_s=0.01, **settings)


class TestInAStore:
    def test_the_newest_of_each_key_and_what_has_none_are_left(self, stores):
        store, follower = stores.open(compacting())
        follower.publish("kv.a", 1, 2, 3, 4, keys=["k", "l", "k", None])
        follower.publish("kv.b", 5, keys=["l"])
        follower.publish("other", 6, 6, keys=["k", "k"])
        follower.publish("kv.a", 7, keys=["k"])

        wait_for(lambda: offsets(store) == [1, 3, 4, 5, 6, 7])

        assert contents([store.last("kv.a", "k"), store.last("kv.a", "l")]) == [(7, "kv.a", 7), (1, "kv.a", 2)]
        assert store.topics(PatternSet(["kv.a"]))[0]["messages"] == 3

    def test_a_deleted_key_and_its_deletion_are_gone(self, stores):
        store, follower = stores.open(compacting(tombstone_s=0.0))
        follower.publish("kv.a", 1, keys=["l"])
        follower.publish("kv.a", 1, None, keys=["k", "k"])

        wait_for(lambda: offsets(store) == [0])

        assert store.last("kv.a", "k") is None
        assert contents([store.last("kv.a"), *store.newest(EVERYTHING, PLENTY)]) == [(0, "kv.a", 1)] * 2
        assert store.topics(EVERYTHING)[0]["next"] == 3
        assert follower.append(Batch.of("kv.a", [2]), expected_next={"kv.a": 3}).error is None

    def test_a_deletion_is_kept_as_long_as_set(self, stores):
        store, follower = stores.open(compacting(tombstone_s=1000.0))
        follower.publish("kv.a", 1, None, 2, keys=["k", "k", "l"])

        wait_for(lambda: offsets(store) == [1, 2])

        assert contents([store.last("kv.a", "k")]) == [(1, "kv.a", None)]

    def test_a_reader_that_is_overtaken_is_told(self, stores):
        store, follower = stores.open(compacting())
        mark = store.trim_mark()
        follower.publish("kv.a", 1, 2, 3, keys=["k", "k", "k"])
        follower.publish("kv.a", 4, keys=["k"])
        wait_for(lambda: offsets(store) == [3])

        gap = store.read(1, EVERYTHING, 4, PLENTY, PLENTY, mark).gap

        assert (gap.first, gap.next, gap.count, gap.why) == (1, 3, 2, "retention")

    def test_the_follower_is_told_what_went(self, stores):
        store, follower = stores.open(compacting())
        told = []
        store.follow(follower._deliver, follower._die, told.extend)
        follower.publish("kv.a", 1, 2, 3, 4, keys=["k", "l", "k", "k"])

        wait_for(lambda: sorted(told) == [("kv.a", 0, 1), ("kv.a", 2, 3)])

    def test_what_a_consumer_has_not_acknowledged_stays(self, stores):
        store, follower = stores.open(compacting())
        store.guard([Guard("c", PatternSet(["kv.a"]), 2)])
        follower.publish("kv.a", *range(5), keys=["k"] * 5)
        follower.publish("kv.b", *range(5), keys=["k"] * 5)
        wait_for(lambda: offsets(store) == [2, 3, 4, 9])

        store.guard([Guard("c", PatternSet(["kv.a"]), 4)])
        wait_for(lambda: offsets(store) == [4, 9])

    def test_limits_of_the_same_rule_count_too(self, stores):
        store, follower = stores.open(compacting(Retention("kv.>", max_messages=3, newest_per_key=True)))
        for at in range(8):
            follower.publish("kv.a", at, keys=[f"k{at % 6}"])

        wait_for(lambda: offsets(store) == [5, 6, 7])

    def test_without_the_rule_nothing_goes(self, stores):
        store, follower = stores.open(Settings(retention=(Retention(max_messages=2),), retention_interval_s=0.01))
        for _ in range(4):
            follower.publish("kv.a", 1, keys=["k"])

        wait_for(lambda: offsets(store) == [2, 3])

    def test_much_takes_many_steps(self, stores, monkeypatch):
        monkeypatch.setattr("zstreampub.stores.sweep.STEP_RANGES", 3)
        monkeypatch.setattr("zstreampub.stores.sweep.STEP_S", 0)
        monkeypatch.setattr("zstreampub.stores.heap_sweep.STEP_S", 0)
        monkeypatch.setattr("zstreampub.stores.memory.COMPACT_REST_S", 0)
        monkeypatch.setattr(compaction, "MOST_KEYS", 10)
        store, follower = stores.open(compacting())
        for _ in range(8):
            follower.append_all([Append([Batch.of(f"kv.{at % 3}", [at, at], keys=[f"k{at % 7}", f"l{at}"])])
                                 for at in range(20)])

        wait_for(lambda: len(offsets(store)) == 20 + 20)


def count_of_segments(store):
    return store._environment.read(lambda txn, db: txn.stat(db.segments)["entries"])


class TestOnDisk:
    def test_what_is_left_is_there_after_a_restart(self, stores):
        if stores.kind == "memory":
            pytest.skip("it ends with the process")
        settings = compacting(tombstone_s=0.0)
        store, follower = stores.open(settings)
        follower.publish("kv.a", 1, 2, 3, None, 4, keys=["k", "l", "k", "l", "m"])
        follower.publish("kv.b", None, keys=["l"])
        wait_for(lambda: offsets(store) == [2, 4])
        stores.close(store)

        store, follower = stores.open(settings)

        assert offsets(store) == [2, 4]
        assert store.last("kv.a", "l") is None and store.last("kv.b") is None
        follower.publish("kv.a", 5, keys=["m"])
        wait_for(lambda: offsets(store) == [2, 6])

    def test_the_index_shrinks_with_the_log(self, stores, monkeypatch):
        if stores.kind == "memory":
            pytest.skip("it has none")
        monkeypatch.setattr("zstreampub.stores.writer.SEGMENT_BATCHES", 4)
        monkeypatch.setattr("zstreampub.stores.joining.MOST_RUNS", 10)
        monkeypatch.setattr(compaction, "LEAST_NEW", 200)
        store, follower = stores.open(compacting())
        follower.publish("kv.a", "first", keys=["rare"])
        for at in range(400):
            follower.publish(f"kv.{at % 3}", at, keys=[f"k{at % 5}"])

        wait_for(lambda: len(offsets(store)) == 16 and count_of_segments(store) <= 12)

        store.check()
        assert contents([store.last("kv.a", "rare"), store.last("kv.0", "k4")]) == [
            (0, "kv.a", "first"), (400, "kv.0", 399)]
        assert contents(read_all(store, PatternSet(["kv.a"]), trims=store.trim_mark())[0]) == [(0, "kv.a", "first")]
        assert store.measure(PatternSet(["kv.a"]), 0, PLENTY).messages == 1
        assert store.measure(EVERYTHING, 0, PLENTY).messages == 16

    def test_a_full_map_can_be_compacted(self, stores):
        if stores.kind == "memory":
            pytest.skip("it has no map")
        store, follower = stores.open(Settings(max_store_bytes=1 << 20))
        while follower.append(Batch.of("kv.a", [b"x" * 5_000] * 2, keys=["k", "l"])).error is None:
            pass
        stores.close(store)

        store, follower = stores.open(compacting(max_store_bytes=1 << 20))

        wait_for(lambda: len(offsets(store)) == 2)
        assert follower.append(Batch.of("kv.a", [b"x" * 50_000])).error is None


def test_a_damaged_batch_stops_no_sweep_and_has_no_keys_where_they_cannot_be_read():
    packed = sealed(1, ["K", "L"]).packed

    for at in range(packed.index(b"\xa3key"), len(packed)):
        batch = Batch.parse(packed[:at] + bytes((packed[at] ^ 0x70,)) + packed[at + 1:])
        keys = keys_of(batch)

        assert not batch.is_sound
        assert keys is None or [type(key) for key in keys] == [bytes, bytes]
    assert keys_of(Batch.parse(packed.replace(b"\xa3key", b"\xd3key"))) is None
