"""The laws of a store, one class each; every store keeps them.

The fixture reads the whole store at the end of every test and compares everything with everything.
"""

import time

import gevent
import pytest

from tests.store_tools import DEADLINE_S, EVERYTHING, PLENTY, Stores, contents, read_all
from zstreampub.errors import (
    BatchTooLarge,
    DeadlineExceeded,
    InvalidOption,
    LimitExceeded,
    SequenceTooOld,
    StoreClosed,
    StoreFull,
)
from zstreampub.message import Batch
from zstreampub.settings import Retention, Settings
from zstreampub.store import Append, Gap
from zstreampub.stores import open_store
from zstreampub.topics import PatternSet


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


def one(topic, payload="x", **columns):
    return Batch.of(topic, [payload], **{name: [value] for name, value in columns.items()})


class TestOffsetsGrowInTheOrderOfAppends:
    def test_batches_of_different_topics_share_one_row_of_offsets(self, store, follower):
        appends = [Append([Batch.of(topic, range(count))]) for topic, count in (("a", 3), ("b", 1), ("a", 2))]

        follower.append_all(appends)

        assert [append.firsts for append in appends] == [[0], [3], [4]]
        assert store.bounds() == (0, 6)

    def test_a_new_log_is_empty(self, store, follower):
        assert store.bounds() == (0, 0)
        assert read_all(store) == ([], [])
        assert store.get(0) is None
        assert store.topics(EVERYTHING) == []

    def test_sealed_batches_carry_their_offset_and_a_time(self, store, follower):
        before = time.time()

        append = follower.append(Batch.of("a", [1]), Batch.of("a", [2, 3]))

        assert [batch.first for batch in append.batches] == [0, 1]
        assert [Batch.parse(batch.packed).first for batch in append.batches] == [0, 1]
        assert before - 1 < append.batches[0].time < time.time() + 1


class TestAnAppendIsAllOrNone:
    def test_the_batches_of_one_append_lie_next_to_each_other(self, store, follower):
        appends = [Append([one("a"), one("b"), one("c")]) for _ in range(20)]

        follower.append_all(appends)

        assert [append.firsts for append in appends] == [[at, at + 1, at + 2] for at in range(0, 60, 3)]

    def test_none_of_its_batches_is_stored_if_one_may_not_be(self, stores):
        store, follower = stores.open(Settings(max_topics=2))
        follower.publish("a", 1)

        append = follower.append(one("b"), one("c"))

        assert isinstance(append.error, LimitExceeded)
        assert append.firsts is None
        assert [topic["topic"] for topic in store.topics(EVERYTHING)] == ["a"]
        assert store.bounds() == (0, 1)

    def test_the_others_of_its_group_go_through(self, stores):
        _, follower = stores.open(Settings(max_topics=1))
        appends = [Append([one(topic)]) for topic in "abaca"]

        follower.append_all(appends)

        assert [append.firsts for append in appends] == [[0], None, [1], None, [2]]
        assert [type(append.error) for append in appends if append.error] == [LimitExceeded] * 2

    def test_one_that_is_too_late_is_not_run(self, store, follower):
        late, early = Append([one("a")], deadline=time.monotonic() - 1), Append([one("a")],
                                                                               deadline=time.monotonic() + 60)

        follower.append_all([late, early])

        assert isinstance(late.error, DeadlineExceeded)
        assert early.firsts == [0]

    def test_one_with_more_messages_than_a_power_cut_may_take_back_is_refused(self, store, follower):
        batches = [Batch.of("a", [1] * (1 << 17)) for _ in range(5)]

        append = follower.append(*batches)

        assert isinstance(append.error, BatchTooLarge)


class TestTimeNeverStepsBack:
    def test_although_the_clock_does(self, store, follower, monkeypatch):
        first = follower.append(one("a")).batches[0].time_us
        monkeypatch.setattr(time, "time_ns", lambda: 1_000)

        second = follower.append(one("a")).batches[0].time_us

        assert second >= first


class TestTheFollowerIsToldEverything:
    def test_once_and_in_offset_order(self, store, follower):
        appends = [Append([one(f"t.{at % 7}", at)], reply=at) for at in range(500)]

        follower.append_all(appends)

        assert [append.reply for append in follower.appends] == list(range(500))
        assert [append.firsts[0] for append in follower.appends] == list(range(500))

    def test_also_what_was_pending_when_the_store_was_closed(self, stores):
        store, follower = stores.open()
        for at in range(10):
            store.append(Append([one("a", at)]))

        stores.close(store)

        assert [append.firsts for append in follower.appends] == [[at] for at in range(10)]

    def test_appending_never_waits(self, store, follower):
        with gevent.Timeout(DEADLINE_S):
            main = gevent.getcurrent()
            switches = []
            gevent.spawn(lambda: switches.append(main))
            for at in range(100):
                store.append(Append([one("a", at)]))
            assert not switches
        follower.wait(lambda: len(follower.appends) == 100)

    def test_after_closing_nothing_is_taken(self, stores):
        store, _ = stores.open()
        stores.close(store)

        with pytest.raises(StoreClosed):
            store.append(Append([one("a")]))
        for call in (lambda: store.read(0, EVERYTHING, 1, 1, 1, 0), lambda: store.get(0), lambda: store.last("a"),
                     lambda: store.trim(EVERYTHING, 1), lambda: store.topics(EVERYTHING)):
            with pytest.raises(StoreClosed):
                call()
        store.close()


class TestAProducersSequenceIsStoredOnce:
    def test_a_retry_gets_the_firsts_of_the_original(self, store, follower):
        original = follower.append(one("a"), one("b"), producer=b"p", sequence=7)
        follower.publish("a", "between")

        retry = follower.append(one("a"), one("b"), producer=b"p", sequence=7)

        assert retry.firsts == original.firsts == [0, 1]
        assert retry.duplicate and not original.duplicate
        assert store.bounds() == (0, 3)

    def test_also_if_both_are_in_one_group(self, store, follower):
        original, retry = (Append([one("a")], producer=b"p", sequence=0) for _ in range(2))

        follower.append_all([original, retry])

        assert (original.firsts, original.duplicate) == ([0], False)
        assert (retry.firsts, retry.duplicate) == ([0], True)

    def test_producers_do_not_know_of_each_other(self, store, follower):
        follower.append(one("a"), producer=b"p", sequence=0)

        other = follower.append(one("a"), producer=b"q", sequence=0)

        assert other.firsts == [1] and not other.duplicate

    def test_64_are_remembered_and_an_older_one_is_refused(self, store, follower):
        follower.append_all([Append([one("a", n)], producer=b"p", sequence=n) for n in range(65)])

        oldest_kept = follower.append(one("a"), producer=b"p", sequence=1)
        too_old = follower.append(one("a"), producer=b"p", sequence=0)

        assert oldest_kept.firsts == [1] and oldest_kept.duplicate
        assert isinstance(too_old.error, SequenceTooOld)

    def test_one_that_was_refused_before_may_come_after_later_ones(self, stores):
        _, follower = stores.open(Settings(max_topics=1))
        follower.publish("a", 0)
        refused = follower.append(one("b"), producer=b"p", sequence=0)
        follower.append(one("a"), producer=b"p", sequence=1)

        again = follower.append(one("a"), producer=b"p", sequence=0)

        assert isinstance(refused.error, LimitExceeded)
        assert again.firsts == [2] and not again.duplicate

    def test_the_longest_idle_producer_is_forgotten(self, stores):
        store, follower = stores.open(Settings(max_producers=2))
        for producer in (b"p", b"q", b"p", b"r"):
            follower.append(one("a"), producer=producer, sequence=store.bounds()[1])

        kept = follower.append(one("a"), producer=b"p", sequence=0)
        forgotten = follower.append(one("a"), producer=b"q", sequence=1)

        assert kept.duplicate
        assert not forgotten.duplicate
        assert store.stats()["producers"] == 2


class TestReading:
    def test_everything_comes_back_in_order(self, store, follower):
        for at in range(10):
            follower.publish(f"t.{at % 3}", *range(at + 1))

        batches, gaps = read_all(store)

        assert [offset for offset, _, _ in contents(batches)] == list(range(55))
        assert gaps == []

    @pytest.mark.parametrize("cursor", range(0, 12))
    def test_a_cursor_in_the_middle_of_a_batch_cuts_it(self, store, follower, cursor):
        follower.append(*(Batch.of("a", range(4)) for _ in range(3)))

        batches, _ = read_all(store, cursor=cursor)

        assert [offset for offset, _, _ in contents(batches)] == list(range(cursor, 12))

    @pytest.mark.parametrize("stop", range(0, 12))
    def test_the_end_of_the_range_cuts_a_batch(self, store, follower, stop):
        follower.append(*(Batch.of("a", range(4)) for _ in range(3)))

        chunk = store.read(0, EVERYTHING, stop, PLENTY, PLENTY, 0)

        assert [offset for offset, _, _ in contents(chunk.batches)] == list(range(stop))
        assert chunk.next == stop

    @pytest.mark.parametrize("most", [1, 2, 3, 5])
    def test_at_most_the_messages_that_were_asked_for(self, store, follower, most):
        follower.append(*(Batch.of("a", range(4)) for _ in range(3)))

        chunk = store.read(1, EVERYTHING, 12, most, PLENTY, 0)

        assert sum(batch.count for batch in chunk.batches) == most
        assert chunk.next == 1 + most

    def test_at_most_the_bytes_that_were_asked_for_but_one_message_always(self, store, follower):
        follower.append(Batch.of("a", [b"x" * 100] * 8), Batch.of("a", [b"x" * 100] * 8))

        for limit in (1, 100, 300, 500, 1_000, 3_000):
            chunk = store.read(0, EVERYTHING, 16, PLENTY, limit, 0)

            assert chunk.batches
            assert sum(batch.size for batch in chunk.batches) <= limit or chunk.next == 1

    def test_only_wanted_topics_come(self, store, follower):
        follower.append_all([Append([one(f"t.{at % 10}", at)]) for at in range(300)])

        for wanted in (PatternSet(["t.3"]), PatternSet(["t.3", "t.4"]), PatternSet(["t.*"]), PatternSet(["*.9"]),
                       PatternSet(["none"]), PatternSet(["t.1", "none"])):
            batches, _ = read_all(store, wanted, cursor=5)
            assert contents(batches) == [(at, f"t.{at % 10}", at) for at in range(5, 300) if f"t.{at % 10}" in wanted]

    def test_a_chunk_without_messages_progresses_to_the_end(self, store, follower):
        follower.append_all([Append([one("a")]) for _ in range(20)])

        chunk = store.read(3, PatternSet(["b"]), PLENTY, 10, 10, 0)

        assert chunk == ([], 20, None, 0)

    def test_at_the_end_nothing_is_found(self, store, follower):
        follower.publish("a", 1)

        assert store.read(1, EVERYTHING, PLENTY, 10, 10, 0) == ([], 1, None, 0)
        assert store.read(7, EVERYTHING, PLENTY, 10, 10, 0) == ([], 7, None, 0)

    def test_a_wildcard_does_not_see_the_topics_of_the_system(self, store, follower):
        follower.append(one("$sys.load"), one("a"))

        assert [topic for _, topic, _ in contents(read_all(store)[0])] == ["a"]
        assert [topic for _, topic, _ in contents(read_all(store, PatternSet(["$sys.>"]))[0])] == ["$sys.load"]

    def test_keys_ids_and_headers_come_back(self, store, follower):
        follower.publish("a", 1, 2, keys=["k", None], ids=[None, b"i"], headers=[{"h": 1}, None])

        messages = read_all(store)[0][0].messages()

        assert [(message.key, message.id, message.headers) for message in messages] == \
            [("k", None, {"h": 1}), (None, b"i", None)]


class TestSingleMessages:
    def test_every_offset_can_be_got(self, store, follower):
        follower.append(Batch.of("a", [0, 1, 2]), Batch.of("b", [3, 4]))

        for at in range(5):
            assert contents([store.get(at)]) == [(at, "a" if at < 3 else "b", at)]
        assert store.get(5) is None
        assert store.get(-1) is None

    def test_the_last_message_of_a_topic(self, store, follower):
        follower.append(Batch.of("a", [0, 1]), Batch.of("b", [2]))

        assert contents([store.last("a")]) == [(1, "a", 1)]
        assert store.last("none") is None

    def test_the_last_message_of_a_key(self, store, follower):
        follower.publish("a", 0, 1, 2, keys=["k", "k", "other"])
        follower.publish("b", 3, keys=["k"])
        follower.publish("a", 4, 5, keys=[b"bytes", None])

        assert contents([store.last("a", "k")]) == [(1, "a", 1)]
        assert contents([store.last("b", "k")]) == [(3, "b", 3)]
        assert contents([store.last("a", b"bytes")]) == [(4, "a", 4)]
        assert store.last("a", "none") is None
        assert store.last("none", "k") is None

    def test_the_newest_of_each_topic_below_an_offset(self, store, follower):
        follower.append_all([Append([Batch.of(f"t.{at % 3}", [at, at])]) for at in range(9)])

        assert [batch.first for batch in store.newest(EVERYTHING, 18)] == [13, 15, 17]
        assert [batch.first for batch in store.newest(EVERYTHING, 13)] == [9, 11, 12]
        assert [batch.first for batch in store.newest(PatternSet(["t.0", "t.2"]), 5)] == [1, 4]
        assert [batch.first for batch in store.newest(PatternSet(["t.2"]), 4)] == []
        assert all(batch.count == 1 for batch in store.newest(EVERYTHING, 18))


class TestPlacesInTheLog:
    def test_the_offset_at_a_time(self, store, follower):
        times = []
        for at in range(20):
            append = follower.append(Batch.of("a", [at, at]))
            times.append(append.batches[0].time_us)

        for time_us in times:
            assert store.offset_at(time_us) == 2 * times.index(time_us)
        assert store.offset_at(0) == 0
        assert store.offset_at(times[-1] + 1) == 40

    def test_the_offset_from_which_on_there_are_so_many_messages(self, store, follower):
        follower.append_all([Append([Batch.of(f"t.{at % 5}", [at] * 3)]) for at in range(50)])

        for wanted in (EVERYTHING, PatternSet(["t.1"]), PatternSet(["t.1", "t.2"]), PatternSet(["*.4"])):
            total = sum(topic["messages"] for topic in store.topics(wanted))
            for count in (1, 2, 3, 4, 7, 29, 30, 31, 150, 151):
                offset = store.offset_of_last(wanted, count)
                batches, _ = read_all(store, wanted, cursor=offset)
                assert sum(batch.count for batch in batches) == min(count, total)
        assert store.offset_of_last(EVERYTHING, 0) == 150
        assert store.offset_of_last(PatternSet(["none"]), 5) == 150

    def test_topics_are_counted(self, store, follower):
        follower.append(Batch.of("b", [1, 2]), Batch.of("a", [3]), Batch.of("b", [4]))

        topics = store.topics(EVERYTHING)

        assert [(topic["topic"], topic["messages"], topic["next"]) for topic in topics] == [("a", 1, 3), ("b", 3, 4)]
        assert sum(topic["bytes"] for topic in topics) == sum(batch.size for batch in read_all(store)[0])
        assert [topic["topic"] for topic in store.topics(PatternSet(["a", "none"]))] == ["a"]


class TestTrimming:
    def test_whole_batches_below_an_offset_go(self, store, follower):
        follower.append_all([Append([Batch.of("a", [at] * 3)]) for at in range(4)])

        assert store.trim(EVERYTHING, 7) == 6

        assert store.bounds() == (6, 12)
        assert [batch.first for batch in read_all(store, cursor=6)[0]] == [6, 9]

    def test_only_wanted_topics_go(self, store, follower):
        follower.append_all([Append([one(f"t.{at % 3}", at)]) for at in range(30)])

        assert store.trim(PatternSet(["t.1"]), 20) == 7

        assert [at for at, _, _ in contents(read_all(store, trims=store.trim_mark())[0])] == \
            [at for at in range(30) if at % 3 != 1 or at >= 20]
        assert store.get(1) is None
        assert store.bounds() == (0, 30)
        assert [(topic["messages"], topic["next"]) for topic in store.topics(EVERYTHING)] == \
            [(10, 28), (3, 29), (10, 30)]

    def test_everything_may_go_and_offsets_go_on(self, store, follower):
        follower.append_all([Append([one("a", at, keys="k")]) for at in range(5)])

        assert store.trim(EVERYTHING, PLENTY) == 5

        assert store.bounds() == (5, 5)
        assert store.last("a") is None
        assert store.last("a", "k") is None
        assert store.newest(EVERYTHING, 5) == []
        assert store.offset_at(0) == 5
        assert store.topics(EVERYTHING) == [{"topic": "a", "messages": 0, "bytes": 0, "next": 5}]
        assert follower.publish("a", "again") == 5
        assert store.bounds() == (5, 6)

    def test_nothing_to_trim_changes_nothing(self, store, follower):
        follower.publish("a", 1)

        assert store.trim(PatternSet(["b"]), 10) == 0
        assert store.trim(EVERYTHING, 0) == 0
        assert store.trim_mark() == 0

    def test_many_steps_end_where_they_should(self, store, follower):
        follower.append_all([Append([one(f"t.{at % 2}", at, keys=str(at % 5))]) for at in range(3_000)])

        assert store.trim(PatternSet(["t.0"]), 2_500) == 1_250

        assert store.bounds() == (1, 3_000)
        assert store.trim(EVERYTHING, 2_000) == 1_000
        assert store.bounds() == (2_001, 3_000)


class TestAReaderIsToldOfTrims:
    def test_what_it_missed_is_counted(self, store, follower):
        follower.append_all([Append([Batch.of(f"t.{at % 2}", [at] * 3)]) for at in range(10)])
        mark = store.trim_mark()

        store.trim(EVERYTHING, 12)
        chunk = store.read(4, EVERYTHING, 30, PLENTY, PLENTY, mark)

        assert chunk.gap == Gap(4, 12, 8, "retention")
        assert chunk.batches[0].first == 12
        assert chunk.trims == store.trim_mark() > mark

    def test_only_once(self, store, follower):
        follower.append_all([Append([one("a")]) for _ in range(10)])
        store.trim(EVERYTHING, 5)

        first = store.read(0, EVERYTHING, 10, 1, PLENTY, 0)
        second = store.read(first.next, EVERYTHING, 10, 1, PLENTY, first.trims)

        assert first.gap is not None
        assert second.gap is None

    def test_only_of_topics_that_it_wants(self, store, follower):
        follower.append_all([Append([one(f"t.{at % 3}", at)]) for at in range(30)])

        store.trim(PatternSet(["t.1"]), 20)

        assert store.read(0, PatternSet(["t.0"]), 30, PLENTY, PLENTY, 0).gap is None
        assert store.read(5, PatternSet(["t.1", "t.2"]), 30, PLENTY, PLENTY, 0).gap == Gap(5, 20, 5, "retention")

    def test_not_of_messages_that_it_had(self, store, follower):
        follower.append_all([Append([one("a")]) for _ in range(10)])

        store.trim(EVERYTHING, 5)

        assert store.read(5, EVERYTHING, 10, PLENTY, PLENTY, 0).gap is None

    def test_also_if_nothing_is_left(self, store, follower):
        follower.append_all([Append([one("a")]) for _ in range(10)])

        store.trim(EVERYTHING, 10)
        chunk = store.read(3, EVERYTHING, PLENTY, PLENTY, PLENTY, 0)

        assert chunk == ([], 10, Gap(3, 10, 7, "retention"), store.trim_mark())

    def test_also_if_it_was_away_for_more_trims_than_are_remembered(self, stores, monkeypatch):
        monkeypatch.setattr("zstreampub.stores.memory.HISTORY_STEPS", 3)
        monkeypatch.setattr("zstreampub.stores.removal.HISTORY_STEPS", 3)
        store, follower = stores.open()
        follower.append_all([Append([one("a", at)]) for at in range(10)])

        for next in range(1, 7):
            store.trim(EVERYTHING, next)

        assert store.read(0, EVERYTHING, 10, 1, PLENTY, 0).gap == Gap(0, 6, None, "retention")
        assert store.read(2, EVERYTHING, 10, 1, PLENTY, 3).gap == Gap(2, 6, 3, "retention")


class TestRetention:
    def kept(self, stores, rules, appends, **settings):
        store, follower = stores.open(Settings(retention=rules, retention_interval_s=0.01, **settings))
        follower.append_all(appends)
        return store, follower

    def until(self, done):
        with gevent.Timeout(DEADLINE_S):
            while not done():
                gevent.sleep(0.002)

    def test_the_oldest_go_over_a_number_of_messages(self, stores):
        store, _ = self.kept(stores, (Retention(max_messages=5),), [Append([one("a", at)]) for at in range(20)])

        self.until(lambda: store.bounds() == (15, 20))

    def test_the_oldest_go_over_a_number_of_bytes(self, stores):
        size = one("a").size
        store, _ = self.kept(stores, (Retention(max_bytes=3 * size),), [Append([one("a")]) for _ in range(20)])

        self.until(lambda: store.bounds() == (17, 20))

    def test_the_oldest_go_after_some_time(self, stores):
        store, _ = self.kept(stores, (Retention(max_age_s=0.05),), [Append([one("a", at)]) for at in range(20)])

        self.until(lambda: store.bounds() == (20, 20))

    def test_a_rule_counts_all_its_topics_together_and_leaves_the_others(self, stores):
        store, _ = self.kept(stores, (Retention("m.>", max_messages=4),),
                             [Append([one(("m.a", "m.b", "keep")[at % 3], at)]) for at in range(30)])

        self.until(lambda: sum(topic["messages"] for topic in store.topics(PatternSet(["m.>"]))) == 4)

        assert contents(read_all(store, PatternSet(["m.>"]), trims=store.trim_mark())[0]) == \
            [(24, "m.a", 24), (25, "m.b", 25), (27, "m.a", 27), (28, "m.b", 28)]
        assert store.topics(PatternSet(["keep"]))[0]["messages"] == 10

    def test_a_topic_obeys_the_first_rule_that_matches(self, stores):
        rules = (Retention("a", max_messages=2), Retention("*"), Retention(">", max_messages=1))
        store, _ = self.kept(stores, rules, [Append([one("a"), one("b"), one("c.d")]) for _ in range(5)])

        self.until(lambda: [topic["messages"] for topic in store.topics(EVERYTHING)] == [2, 5, 1])

    def test_a_reader_is_told(self, stores):
        store, follower = self.kept(stores, (Retention(max_messages=5),), [Append([one("a")]) for _ in range(5)])
        mark = store.trim_mark()

        follower.append_all([Append([one("a")]) for _ in range(5)])
        self.until(lambda: store.bounds() == (5, 10))

        assert store.read(2, EVERYTHING, 10, PLENTY, PLENTY, mark).gap == Gap(2, 5, 3, "retention")

    def test_it_goes_on_while_messages_come_in(self, stores):
        store, follower = self.kept(stores, (Retention(max_messages=100),), [])

        for at in range(100):
            follower.append_all([Append([one(f"t.{at % 9}", at)]) for _ in range(20)])
        self.until(lambda: store.bounds() == (1_900, 2_000))


class TestTheLimitOfItsSize:
    def test_a_full_store_refuses_and_goes_on_when_there_is_room(self, stores):
        store, follower = stores.open(Settings(max_store_bytes=1 << 20))
        refused = None
        for _ in range(200):
            append = follower.append(Batch.of("a", [b"x" * 20_000]))
            if append.error is not None:
                refused = append.error
                break

        assert isinstance(refused, StoreFull)
        first, end = store.bounds()
        assert read_all(store)[0][-1].next == end
        assert store.trim(EVERYTHING, end) == end - first
        assert follower.append(Batch.of("a", [b"x" * 20_000])).firsts == [end]


class TestChangesAndRecords:
    def test_the_journal_has_the_changes_in_the_order_of_their_appends(self, store, follower):
        appends = follower.append_all([Append([one("a")], changes=[b"x", b"yy"]), Append([one("a")]),
                                       Append(changes=[b""]), Append(changes=[b"z"])])

        assert store.journal() == [(0, b"x"), (1, b"yy"), (2, b""), (3, b"z")]
        assert [append.journal_next for append in appends] == [2, 2, 3, 4]
        assert [append.firsts for append in appends] == [[0], [1], [], []]

    def test_records_are_kept_replaced_and_deleted(self, store, follower):
        follower.append(records={b"a1": b"1", b"a2": b"2", b"b": b"3", b"a0": b"0"})
        follower.append(one("a"), records={b"a1": None, b"a2": b"new", b"never": None})

        assert store.records(b"a") == [(b"a0", b"0"), (b"a2", b"new")]
        assert store.records(b"") == [(b"a0", b"0"), (b"a2", b"new"), (b"b", b"3")]
        assert store.records(b"c") == []

    def test_records_come_in_pages(self, store, follower):
        keys = [b"k%03d" % at for at in range(25)]
        follower.append(records=dict.fromkeys([*keys, b"j", b"l"], b"v"))

        found, after = [], None
        while page := store.records(b"k", after, 10):
            found += [key for key, _ in page]
            after = found[-1]

        assert found == keys

    def test_of_two_appends_the_later_one_has_its_record_kept(self, store, follower):
        follower.append_all([Append(records={b"k": b"1", b"l": b"1"}), Append(records={b"k": b"2", b"l": None})])

        assert store.records(b"") == [(b"k", b"2")]

    def test_those_of_a_failed_append_are_not_kept(self, stores):
        store, follower = stores.open(Settings(max_topics=1))
        follower.append_all([Append([one(topic)], changes=[topic.encode()], records={topic.encode(): b""})
                             for topic in "aba"])

        assert [change for _, change in store.journal()] == [b"a", b"a"]
        assert store.records(b"") == [(b"a", b"")]

    def test_nor_twice_those_of_a_retry(self, store, follower):
        original, retry = follower.append_all(
            [Append([], changes=[b"c"], producer=b"p", sequence=1) for _ in range(2)])

        assert (original.firsts, retry.firsts, retry.duplicate) == ([], [], True)
        assert store.journal() == [(0, b"c")]

    def test_what_may_be_forgotten_is_forgotten_in_time_and_numbers_go_on(self, store, follower):
        for at in range(600):
            follower.append(changes=[b"%d" % at * 20] * 10, journal_from=10 * at)
        before = store.journal()
        last = follower.append(changes=[b"last"], journal_from=6_000)

        assert before[-1][0] == 5_999
        assert [number for number, _ in before] == list(range(before[0][0], 6_000))
        assert 5_000 < before[0][0] <= 5_990
        assert last.journal_next == 6_001
        assert store.journal()[-1] == (6_000, b"last")

    def test_the_follower_hears_of_what_was_removed_after_it_is_gone(self, store, follower):
        follower.append_all([Append([Batch.of(f"t.{at % 2}", [at] * 3)]) for at in range(10)])

        store.trim(PatternSet(["t.1"]), 18)

        assert follower.removals == [("t.1", first, first + 3) for first in (3, 9, 15)]


class TestMeasuring:
    def batches(self, store, wanted, first, next):
        batches = [batch.slice(max(first - batch.first, 0), min(next - batch.first, batch.count))
                   for batch in read_all(store, wanted, first, trims=store.trim_mark())[0] if batch.first < next]
        return (sum(batch.count for batch in batches), sum(batch.size for batch in batches),
                batches[0].time_us if batches else None)

    @pytest.mark.parametrize("wanted", [EVERYTHING, PatternSet(["t.1"]), PatternSet(["t.1", "t.2"]),
                                        PatternSet(["none"])])
    def test_it_says_what_reading_would_find(self, store, follower, wanted):
        for at in range(20):
            follower.append_all([Append([Batch.of(f"t.{at % 5}", [b"x" * at] * 3)]) for _ in range(3)])
        store.trim(PatternSet(["t.1"]), 60)

        for first in (0, 1, 50, 61, 179, 180, 200):
            for next in (0, 1, 62, 100, 179, 180, 500):
                if first < next:
                    assert store.measure(wanted, first, next) == self.batches(store, wanted, first, next)


class TestOpening:
    @pytest.mark.parametrize("url", ["", "lmdb:", "lmdb", "memory", "memory:x", "redis:x", None, 7, b"memory:"])
    def test_a_url_that_names_no_store_is_refused(self, url):
        with pytest.raises(InvalidOption):
            open_store(url)

    def test_each_log_has_a_name_of_its_own(self, tmp_path):
        stores = [open_store("memory:"), open_store("memory:"), open_store(f"lmdb:{tmp_path}/a")]

        assert len({store.epoch for store in stores}) == 3
        assert all(len(store.epoch) == 32 and int(store.epoch, 16) for store in stores)
        for store in stores:
            store.close()
