"""Compaction against a plain list: what has a newer one goes, what is guarded or newest stays, and all agree."""

import shutil
import tempfile

import gevent
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.store_tools import DEADLINE_S, EVERYTHING, PLENTY, Stores, contents, read_all
from zstreampub.message import Batch
from zstreampub.settings import Retention, Settings
from zstreampub.store import Append, Guard
from zstreampub.topics import PatternSet

TOPICS = ["kv.a", "kv.b", "other"]
PATTERNS = ["kv.a", "kv.b", "kv.*", ">", "other"]
KEYS = [None, "k", b"l", "m"]

topics = st.sampled_from(TOPICS)
messages = st.tuples(st.sampled_from(KEYS), st.sampled_from([None, 1, 2, 2]))
batches = st.tuples(topics, st.lists(messages, min_size=1, max_size=8))
wanted_sets = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2)
offsets = st.integers(0, 100)
guards = st.lists(st.tuples(st.sampled_from("cd"), offsets, st.sampled_from(PATTERNS)), max_size=2)


class Model(RuleBasedStateMachine):
    """``log`` is the list: ``[first, topic, messages]`` of every batch, or what is left of one."""

    kind = "memory"
    tombstone_s = 0.0

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("zstreampub.stores.compaction.LOOKS", 0)
        self.patch.setattr("zstreampub.stores.compaction.LEISURE", 0)
        self.place = tempfile.mkdtemp()
        self.stores = Stores(self.kind, self.place)
        self.log, self.end, self.guards = [], 0, []
        self.missed = []
        self.settings = Settings(retention=(Retention("kv.>", newest_per_key=True),), retention_interval_s=0.01,
                                 tombstone_s=self.tombstone_s)
        self.open()

    def open(self):
        self.store, self.follower = self.stores.open(self.settings)
        self.told = []
        self.store.follow(self.follower._deliver, self.follower._die, self.told.extend)
        self.reader = (0, self.store.trim_mark())

    @initialize(few_keys=st.booleans())
    def choose_sizes(self, few_keys):
        if few_keys:        # several stages, and steps of one run
            self.patch.setattr("zstreampub.stores.compaction.MOST_KEYS", 2)
            self.patch.setattr("zstreampub.stores.sweep.STEP_RANGES", 1)

    def teardown(self):
        self.stores.close_all()
        shutil.rmtree(self.place)
        self.patch.undo()

    # --- what happens ------------------------------------------------------------

    @rule(appends=st.lists(st.lists(batches, min_size=1, max_size=2), min_size=1, max_size=4))
    def append(self, appends):
        told = self.follower.append_all([Append([packed(*batch) for batch in made]) for made in appends])
        for append, made in zip(told, appends):
            for first, (topic, column) in zip(append.firsts, made):
                self.log.append((first, topic, column))
                self.end = first + len(column)
        self.settle()

    @rule(guards=guards)
    def guard(self, guards):
        self.guards = [Guard(name, PatternSet([pattern]), first) for name, first, pattern in guards]
        self.store.guard(self.guards)
        self.settle()

    @rule(patterns=wanted_sets, next=offsets)
    def trim(self, patterns, next):
        wanted = PatternSet(patterns)
        gone = [batch for batch in self.log if batch[1] in wanted and batch[0] + len(batch[2]) <= next]
        assert self.store.trim(wanted, next) == sum(len(batch[2]) for batch in gone)
        self.log = [batch for batch in self.log if batch not in gone]
        self.missed += [(topic, first + at) for first, topic, column in gone for at in range(len(column))]
        self.settle()

    def settle(self):
        """Wait until the store has removed what the list says goes, and nothing else."""
        before = set(self.flat())
        self.log = [part for batch in self.log for part in self.parts(batch)]
        self.missed += [(topic, offset) for offset, topic, *_ in before - set(self.flat())]
        expected = [(offset, topic, value) for offset, topic, _, value in self.flat()]
        with gevent.Timeout(DEADLINE_S):
            while (found := contents(read_all(self.store, trims=self.store.trim_mark())[0])) != expected:
                assert set(expected) <= set(found), "something is gone that had to stay"
                gevent.sleep(0.002)
            # What a reader sees on disk is counted a moment later.
            while sum(topic["messages"] for topic in self.store.topics(EVERYTHING)) != len(expected):
                gevent.sleep(0)

    def parts(self, batch):
        first, topic, column = batch
        parts = []
        for at, message in enumerate(column):
            if self.goes(topic, first + at, *message):
                continue
            if parts and parts[-1][0] + len(parts[-1][2]) == first + at:
                parts[-1][2].append(message)
            else:
                parts.append((first + at, topic, [message]))
        return parts

    def goes(self, topic, offset, key, value):
        if key is None or topic == "other" or any(offset >= one.first and topic in one.wanted for one in self.guards):
            return False
        newest = max(at for at, name, its_key, _ in self.flat() if (name, its_key) == (topic, key))
        return offset < newest or (value is None and self.tombstone_s == 0)

    def flat(self):
        return [(first + at, topic, key, value) for first, topic, column in self.log
                for at, (key, value) in enumerate(column)]

    # --- what must be ------------------------------------------------------------

    @rule(topic=topics, key=st.sampled_from(KEYS))
    def last(self, topic, key):
        newest = [offset for offset, name, its_key, _ in self.flat() if name == topic and key in (None, its_key)][-1:]
        found = self.store.last(topic, key)
        assert ([found.first] if found else []) == newest

    @rule(patterns=wanted_sets, next=offsets)
    def newest(self, patterns, next):
        wanted = PatternSet(patterns)
        newest = {topic: offset for offset, topic, *_ in self.flat() if topic in wanted and offset < next}
        assert [batch.first for batch in self.store.newest(wanted, next)] == sorted(newest.values())

    @rule(offset=offsets)
    def get(self, offset):
        found = self.store.get(offset)
        assert (contents([found]) if found else []) == [
            (at, topic, value) for at, topic, _, value in self.flat() if at == offset]

    @rule(patterns=wanted_sets, cursor=offsets, stop=offsets, most=st.integers(1, 9))
    def read(self, patterns, cursor, stop, most):
        wanted, found, start, trims = PatternSet(patterns), [], cursor, self.store.trim_mark()
        while cursor < min(stop, self.end):
            chunk = self.store.read(cursor, wanted, stop, most, PLENTY, trims)
            assert cursor < chunk.next <= min(stop, self.end)
            found += contents(chunk.batches)
            cursor = chunk.next
        assert found == [(offset, topic, value) for offset, topic, _, value in self.flat()
                         if topic in wanted and start <= offset < stop]

    @rule(patterns=wanted_sets, move=st.integers(1, 20))
    def read_on(self, patterns, move):
        wanted, (cursor, trims) = PatternSet(patterns), self.reader
        chunk = self.store.read(cursor, wanted, cursor + move, PLENTY, PLENTY, trims)
        lost = [offset for topic, offset in self.missed if topic in wanted and offset >= cursor]
        assert (chunk.gap and (chunk.gap.first, chunk.gap.next, chunk.gap.count, chunk.gap.why)) == (
            (cursor, max(lost) + 1, len(lost), "retention") if lost else None)
        self.reader, self.missed = (chunk.next, chunk.trims), []

    @rule(patterns=wanted_sets, first=offsets, next=offsets)
    def measure(self, patterns, first, next):
        wanted = PatternSet(patterns)
        there = [offset for offset, topic, *_ in self.flat() if topic in wanted and first <= offset < next]
        assert self.store.measure(wanted, first, next).messages == len(there)

    @rule()
    def topics(self):
        counts = {}
        for _, topic, *_ in self.flat():
            counts[topic] = counts.get(topic, 0) + 1
        found = self.store.topics(EVERYTHING)
        assert {one["topic"]: one["messages"] for one in found if one["messages"]} == counts
        assert self.store.bounds()[1] == self.end

    @rule()
    def removals_were_told(self):
        gevent.sleep(0)
        there = {offset for offset, *_ in self.flat()}
        for _, first, next in self.told:
            assert first < next and not there.intersection(range(first, next))


class LmdbModel(Model):
    kind = "lmdb"

    @initialize(tiny=st.booleans())
    def choose_more_sizes(self, tiny):
        if tiny:
            self.patch.setattr("zstreampub.stores.writer.RUN_BATCHES", 3)
            self.patch.setattr("zstreampub.stores.writer.SEGMENT_BATCHES", 4)
            self.patch.setattr("zstreampub.stores.checkpoint.EVERY_BATCHES", 6)
            self.patch.setattr("zstreampub.stores.checkpoint.RECORDS_PER_COMMIT", 1)
            self.patch.setattr("zstreampub.stores.sweep.SCAN_SHARE", 1)
            self.patch.setattr("zstreampub.stores.joining.MOST_RUNS", 4)
            self.patch.setattr("zstreampub.stores.reading.SCAN_SHARE", 1)

    @precondition(lambda self: self.end)
    @rule()
    def check_and_reopen(self):
        self.stores.close(self.store)
        self.open()
        self.store.guard(self.guards)
        self.missed = []
        self.settle()


class DeletionsStay(LmdbModel):
    tombstone_s = 1e9


@pytest.mark.parametrize("model, examples", [(Model, 60), (LmdbModel, 60), (DeletionsStay, 30)])
def test_a_compacted_store_and_a_list_never_disagree(model, examples):
    run_state_machine_as_test(model, settings=settings(
        max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)))


def packed(topic, column):
    return Batch.of(topic, [value for _, value in column], keys=[key for key, _ in column])
