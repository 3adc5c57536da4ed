"""A FifoStore against a deque: whatever is added, popped, closed and abandoned, both say the same."""

import shutil
import tempfile
from collections import deque

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from zstreampub import FifoStore
from zstreampub.disk import journal
from zstreampub.errors import BatchTooLarge, SpoolFull
from zstreampub.spool import contents, records

SIZES = [0, 1, 30, 300]
groups = st.lists(st.sampled_from(SIZES), max_size=12)
counts = st.integers(1, 20)


def abandon(store):
    """Leave *store* as a process does that is killed."""
    store._let_go()
    store._closed = True


class Model(RuleBasedStateMachine):
    """``kept`` is the deque, of positions and values. Tiny records, journal and memory, so that all borders are met."""

    def __init__(self):
        super().__init__()
        self.place = tempfile.mkdtemp()
        self.numbers = iter(range(1 << 30))
        self.kept = deque()
        self.next = 0
        self.dropped = 0
        self.marks = {}
        self.shown = []         # what front or front_many returned last, and was not popped since

    @initialize(max_messages=st.sampled_from([None, 1, 5, 20]), max_bytes=st.sampled_from([None, 400, 2000]),
                when_full=st.sampled_from(["refuse", "drop", "drop_oldest"]))
    def open(self, max_messages, max_bytes, when_full):
        self.options = {"max_messages": max_messages, "max_bytes": max_bytes, "when_full": when_full}
        self.store = FifoStore(self.place, durability="relaxed", **self.options)

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.place)

    # --- what happens ------------------------------------------------------------------

    @rule(sizes=groups, mark=st.sampled_from([None, "a", "b"]))
    def add(self, sizes, mark):
        values = [b"%06d" % next(self.numbers) + bytes(size) for size in sizes]
        marked = None if mark is None else (mark, len(self.kept))
        try:
            kept = self.store.add(values[0], marked) if len(values) == 1 else self.store.add_many(values, marked)
        except (SpoolFull, BatchTooLarge):
            assert self.options["when_full"] == "refuse" and self.over([*self.values, *values])
            return
        if mark is not None:
            self.marks[mark] = marked[1]
        assert kept == self.expect(values)

    def expect(self, values):
        """Add *values* to the deque; return how many are kept at first."""
        if self.options["when_full"] == "refuse":
            assert not self.over([*self.values, *values])
        kept = 0
        for value in values:
            if self.options["when_full"] == "drop" and self.over([*self.values, value]):
                self.dropped += len(values) - kept
                break
            self.kept.append((self.next, value))
            self.next += 1
            kept += 1
        while self.over(self.values):
            self.kept.popleft()
            self.dropped += 1
        return kept

    @property
    def values(self):
        return [value for _, value in self.kept]

    def over(self, values):
        most, most_bytes = self.options["max_messages"], self.options["max_bytes"]
        return (most is not None and len(values) > most) or (
            most_bytes is not None and sum(len(value) + 1 for value in values) > most_bytes)

    @rule()
    def front(self):
        self.shown = list(self.kept)[:1]
        assert self.store.front() == (self.values[0] if self.kept else None)

    @rule(count=counts)
    def front_many(self, count):
        self.shown = list(self.kept)[:count]
        assert self.store.front_many(count) == [value for _, value in self.shown]

    @rule(count=counts)
    def pop(self, count):
        popped = self.store.pop_front() if count == 1 else self.store.pop_many(count)
        first = (self.shown or self.kept or [(self.next, None)])[0][0]
        self.shown = self.shown[count:]
        while self.kept and self.kept[0][0] < first + count:
            self.kept.popleft()
        assert popped == min(first + count, self.next) - first

    @rule()
    def clear(self):
        assert self.store.clear() == len(self.kept)
        self.kept.clear()

    @rule(abandoned=st.booleans())
    def reopen(self, abandoned):
        if abandoned:
            abandon(self.store)
        else:
            self.store.close()
        self.store = FifoStore(self.place, durability="relaxed", **self.options)
        self.shown = []
        assert abandoned or self.store.dropped == self.dropped
        self.dropped = self.store.dropped       # what nothing else was written with is counted on from the last commit

    # --- what holds -----------------------------------------------------------------------

    @invariant()
    def all_is_the_same(self):
        store = self.store
        assert list(store) == self.values
        assert len(store) == len(self.kept) and store.dropped == self.dropped and store.marks == self.marks
        assert store.size_bytes == sum(len(value) + 1 for value in self.values)


def test_a_fifo_store_is_a_deque(monkeypatch):
    for module, name, value in ((journal, "FILE_BYTES", 2000), (journal, "BLOCK_BYTES", 64),
                                (contents, "FRONT_BYTES", 700), (contents, "MOST_BYTES", 1000),
                                (contents, "FRONT_MESSAGES", 9),
                                (contents, "DELETE_BYTES", 3000), (records, "RUN_BYTES", 600),
                                (records, "RUN_ITEMS", 5), (records, "READ_BYTES", 800), (records, "READ_ITEMS", 7),
                                (records, "DELETE_RUNS", 3)):
        monkeypatch.setattr(module, name, value)

    run_state_machine_as_test(Model, settings=settings(stateful_step_count=30, suppress_health_check=list(HealthCheck)))
