"""A store against a plain list: whatever is appended, trimmed and reopened, both say the same."""

import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.store_tools import PLENTY, Stores, contents
from zstreampub.errors import DuplicateId, NextMismatch
from zstreampub.message import Batch
from zstreampub.store import Append
from zstreampub.topics import PatternSet

TOPICS = ["a", "a.b", "a.c", "b.c", "b", "$s.a"]
PATTERNS = [">", "*", "a.*", "*.c", "a.>", "$s.>", "none", *TOPICS]

topics = st.sampled_from(TOPICS)
keys = st.sampled_from([None, None, "k", "l"])
batches = st.tuples(topics, st.lists(keys, min_size=1, max_size=6))
ids = st.lists(st.sampled_from([None, "i", "j", "k", "l"]), min_size=1, max_size=3)
changes = st.lists(st.binary(max_size=30), max_size=3)
records = st.dictionaries(st.sampled_from([b"a", b"ab", b"b", b"\xff"]), st.sampled_from([None, b"", b"value"]))
# Some batches with ids, whether the next offset of the first one's topic is expected, rightly or not, and the rest.
appends_with_more = st.tuples(st.lists(st.tuples(topics, ids), max_size=3),
                              st.sampled_from([None, None, "right", "wrong"]), changes, records)
wanted_sets = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3)
offsets = st.integers(0, 120)


class Model(RuleBasedStateMachine):
    """``log`` is the list: ``(first, topic, keys)`` of every batch that is kept; ``batches`` has each by its first."""

    kind = "memory"

    def __init__(self):
        super().__init__()
        self.place = tempfile.mkdtemp()
        self.stores = Stores(self.kind, self.place)
        self.store, self.follower = self.stores.open()
        self.log = []
        self.end = self.first = 0
        self.sequence = 0
        self.reader = (0, 0)            # a cursor and the trim mark of its last read
        self.missed = []                # batches trimmed since that read
        self.batches = {}
        self.nexts = {}                 # of topics
        self.ids = {}                   # (topic, id) -> offset
        self.journal = []
        self.forgotten = 0
        self.records = {}

    def teardown(self):
        self.stores.close_all()
        shutil.rmtree(self.place)

    # --- what happens ------------------------------------------------------------

    @rule(appends=st.lists(st.lists(batches, min_size=1, max_size=3), min_size=1, max_size=5))
    def append(self, appends):
        told = self.follower.append_all([Append([self.packed(*one) for one in batches]) for batches in appends])
        for append, made in zip(told, appends):
            assert append.error is None
            for first, batch, (topic, column) in zip(append.firsts, append.batches, made):
                assert first == self.end
                self.note(batch, topic, column)

    @rule(batch=batches)
    def append_twice(self, batch):
        self.sequence += 1
        original, retry = self.follower.append_all(
            [Append([self.packed(*batch)], producer=b"p", sequence=self.sequence) for _ in range(2)])
        assert original.firsts == retry.firsts == [self.end]
        assert retry.duplicate
        self.note(original.batches[0], *batch)

    @rule(made=st.lists(appends_with_more, min_size=1, max_size=4))
    def append_with_more(self, made):
        told = []
        for batches, expected, changes, records in made:
            append = Append([Batch.of(topic, [f"{topic} {at}" for at in range(len(column))], ids=column)
                             for topic, column in batches], changes=changes, records=records)
            if batches and expected is not None:
                topic = batches[0][0]
                append.expected_next = {topic: self.nexts.get(topic, 0) + (expected == "wrong")}
            told.append((append, self.decide(append, batches)))
        self.follower.append_all([append for append, _ in told])
        for append, outcome in told:
            assert (append.firsts if append.error is None else type(append.error)) == outcome

    def decide(self, append, batches):
        """Return the firsts of *append*, or the class of its error, and take over what it changes."""
        firsts, placed, own, end = [], [], {}, self.end
        for batch, (topic, column) in zip(append.batches, batches):
            found = [None if id is None else own.get((topic, id), self.ids.get((topic, id))) for id in column]
            if None not in found and found == list(range(found[0], found[0] + len(found))):
                firsts.append(found[0])
                continue
            named = [id for id in column if id is not None]
            if found.count(None) < len(found) or len(set(named)) < len(named):
                return DuplicateId
            own.update(((topic, id), offset) for offset, id in enumerate(column, end) if id is not None)
            firsts.append(end)
            placed.append((batch, topic))
            end += len(column)
        if placed and any(self.nexts.get(topic, 0) != next for topic, next in (append.expected_next or {}).items()):
            return NextMismatch
        for batch, topic in placed:
            self.note(batch, topic, [None] * batch.count)
        self.ids.update(own)
        self.journal += append.changes
        self.records.update(append.records)
        return firsts

    def note(self, batch, topic, column):
        self.log.append((self.end, topic, column))
        self.batches[self.end] = batch
        self.end += len(column)
        self.nexts[topic] = self.end

    @rule(share=st.floats(0, 1))
    def forget(self, share):
        self.forgotten = max(self.forgotten, int(share * len(self.journal)))
        append = self.follower.append(journal_from=self.forgotten)
        assert append.error is None and append.journal_next == len(self.journal)

    @rule(patterns=wanted_sets, next=offsets)
    def trim(self, patterns, next):
        wanted = PatternSet(patterns)
        gone = [batch for batch in self.log if batch[1] in wanted and batch[0] + len(batch[2]) <= next]
        self.follower.removals.clear()
        assert self.store.trim(wanted, next) == sum(len(batch[2]) for batch in gone)
        self.log = [batch for batch in self.log if batch not in gone]
        self.missed += gone
        if gone:
            self.first = self.log[0][0] if self.log else self.end
        assert sorted((offset, topic) for topic, first, next in self.follower.removals
                      for offset in range(first, next)) == \
            [(offset, topic) for first, topic, column in gone for offset in range(first, first + len(column))]

    @rule(cursor=offsets)
    def seek(self, cursor):
        self.reader = (min(cursor, self.end), self.store.trim_mark())
        self.missed = []

    def packed(self, topic, column):
        return Batch.of(topic, [f"{topic} {at}" for at in range(len(column))], keys=column)

    # --- what must be ------------------------------------------------------------

    def messages(self, wanted, cursor, stop):
        return [(first + at, topic, f"{topic} {at}") for first, topic, column in self.log if topic in wanted
                for at in range(len(column)) if cursor <= first + at < stop]

    @invariant()
    def bounds_fit(self):
        assert self.store.bounds() == (self.first, self.end)

    @rule(patterns=wanted_sets, cursor=offsets, stop=offsets, most=st.integers(1, 20),
          size=st.sampled_from([1, 60, 200, PLENTY]))
    def read(self, patterns, cursor, stop, most, size):
        wanted, found, start, trims = PatternSet(patterns), [], cursor, self.store.trim_mark()
        while cursor < min(stop, self.end):
            chunk = self.store.read(cursor, wanted, stop, most, size, trims)
            assert cursor < chunk.next <= min(stop, self.end)
            assert sum(batch.count for batch in chunk.batches) <= most
            assert sum(batch.size for batch in chunk.batches) <= size or \
                [batch.count for batch in chunk.batches] == [1]
            assert chunk.gap is None
            found += contents(chunk.batches)
            cursor = chunk.next
        assert found == self.messages(wanted, start, stop)

    @rule(patterns=wanted_sets)
    def read_on(self, patterns):
        wanted, (cursor, trims) = PatternSet(patterns), self.reader
        chunk = self.store.read(cursor, wanted, PLENTY, 3, PLENTY, trims)
        lost = [min(first + len(column) - cursor, len(column)) for first, topic, column in self.missed
                if topic in wanted and first + len(column) > cursor]
        assert (chunk.gap.count if chunk.gap else 0) == sum(lost)
        if chunk.gap is not None:
            assert chunk.gap.first == cursor
            assert chunk.gap.next == max(first + len(column) for first, topic, column in self.missed if topic in wanted)
        self.reader, self.missed = (chunk.next, chunk.trims), []

    @rule(offset=offsets)
    def get(self, offset):
        found = self.store.get(offset)
        assert (contents([found]) if found else []) == self.messages(PatternSet([">", "$s.>"]), offset, offset + 1)

    @rule(topic=topics, key=keys)
    def last(self, topic, key):
        newest = [first + at for first, name, column in self.log if name == topic
                  for at, its_key in enumerate(column) if key is None or its_key == key][-1:]
        found = self.store.last(topic, key)
        assert ([found.first] if found else []) == newest

    @rule(patterns=wanted_sets, next=offsets)
    def newest(self, patterns, next):
        newest = {}
        for offset, topic, _ in self.messages(PatternSet(patterns), 0, next):
            newest[topic] = offset
        found = self.store.newest(PatternSet(patterns), next)
        assert [batch.first for batch in found] == sorted(newest.values())

    @rule(patterns=wanted_sets, count=st.integers(0, 40))
    def offset_of_last(self, patterns, count):
        wanted = PatternSet(patterns)
        offset = self.store.offset_of_last(wanted, count)
        there = len(self.messages(wanted, 0, PLENTY))
        assert len(self.messages(wanted, offset, PLENTY)) == min(count, there)

    @rule(patterns=wanted_sets, first=offsets, next=offsets)
    def measure(self, patterns, first, next):
        wanted, there = PatternSet(patterns), []
        for at, topic, column in self.log:
            if topic in wanted and first < next and at < next and at + len(column) > first:
                there.append(self.batches[at].slice(max(first - at, 0), min(next - at, len(column))))
        assert self.store.measure(wanted, first, next) == (
            sum(batch.count for batch in there), sum(batch.size for batch in there),
            there[0].time_us if there else None)

    @rule()
    def journal_and_records(self):
        kept = self.store.journal()
        assert [number for number, _ in kept] == list(range(len(self.journal) - len(kept), len(self.journal)))
        assert [change for _, change in kept] == self.journal[len(self.journal) - len(kept):]
        assert len(kept) >= len(self.journal) - self.forgotten
        there = sorted((key, value) for key, value in self.records.items() if value is not None)
        assert self.store.records(b"") == there
        assert self.store.records(b"a", b"a") == [(key, value) for key, value in there if key == b"ab"]

    @rule(patterns=wanted_sets)
    def topics(self, patterns):
        wanted, counts = PatternSet(patterns), {}
        for _, topic, _ in self.messages(wanted, 0, PLENTY):
            counts[topic] = counts.get(topic, 0) + 1
        found = self.store.topics(wanted)
        assert {topic["topic"]: topic["messages"] for topic in found if topic["messages"]} == counts


class LmdbModel(Model):
    kind = "lmdb"

    @initialize(tiny=st.booleans())
    def choose_sizes(self, tiny):
        """Small runs, segments and saves, so that a few appends reach every border."""
        self.patch = pytest.MonkeyPatch()
        if tiny:
            self.patch.setattr("zstreampub.stores.writer.RUN_BATCHES", 3)
            self.patch.setattr("zstreampub.stores.writer.SEGMENT_BATCHES", 4)
            self.patch.setattr("zstreampub.stores.checkpoint.EVERY_BATCHES", 6)
            self.patch.setattr("zstreampub.stores.checkpoint.RECORDS_PER_COMMIT", 1)
            self.patch.setattr("zstreampub.stores.records.PAGE_TOPICS", 2)
            self.patch.setattr("zstreampub.stores.checkpoint.PAGE_TOPICS", 2)
            self.patch.setattr("zstreampub.stores.removal.PAGE_TOPICS", 2)
            self.patch.setattr("zstreampub.stores.reading.PAGE_TOPICS", 2)
            self.patch.setattr("zstreampub.stores.writer.PAGE_TOPICS", 2)
            self.patch.setattr("zstreampub.stores.removal.STEP_BATCHES", 2)
            self.patch.setattr("zstreampub.stores.reading.STEP_RUNS", 2)
            self.patch.setattr("zstreampub.stores.reading.SCAN_SHARE", 1)
            self.patch.setattr("zstreampub.stores.chunk.LOOK_BATCHES", 5)
            self.patch.setattr("zstreampub.stores.measuring.STEP_RUNS", 2)
            self.patch.setattr("zstreampub.stores.measuring._AT_ONCE", 2)
            self.patch.setattr("zstreampub.stores.rows.RECORD_BYTES", 60)
            self.patch.setattr("zstreampub.stores.rows.FORGET_RECORDS", 2)

    @precondition(lambda self: self.end)
    @rule()
    def reopen(self):
        epoch = self.store.epoch
        self.stores.close(self.store)
        self.store, self.follower = self.stores.open()
        assert self.store.epoch == epoch
        assert self.store.bounds() == (self.first, self.end)

    def teardown(self):
        super().teardown()
        self.patch.undo()


@pytest.mark.parametrize("model", [Model, LmdbModel])
def test_a_store_and_a_list_never_disagree(model):
    deep = settings.default.max_examples > 1_000        # see tests/conftest.py
    run_state_machine_as_test(model, settings=settings(
        stateful_step_count=60 if deep else 25, suppress_health_check=list(HealthCheck)))
