"""The seam between history and live: whatever happens in between, a subscription gets its messages once, in order.

Publishing, committing, delivering, reading the log, taking and trimming are steps of their own,
in a generated order, over a store whose reads finish only when a step lets them.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hand_store import Stage
from zstreampub import fanout
from zstreampub.settings import Retention
from zstreampub.topics import PatternSet

TOPICS = ("a", "a.b", "a.c", "b", "$s")
PATTERNS = st.lists(st.sampled_from(("a", "a.*", "a.>", ">", "*", "b", "$s", "none")), min_size=1, max_size=3)
BATCH = st.tuples(st.sampled_from(TOPICS), st.lists(st.integers(0, 40), min_size=1, max_size=5))
WHERE = st.floats(0, 1)     # a place in the log that there is when the step is made
START = st.one_of(
    st.sampled_from(["new", "earliest", "last"]), st.tuples(st.just("offset"), WHERE),
    st.tuples(st.just("time"), WHERE), st.tuples(st.just("last"), st.integers(1, 6)))
UNTIL = st.one_of(st.none(), st.none(), st.just("end"), st.tuples(WHERE, st.integers(0, 6)))
SUBSCRIBE = st.tuples(st.just("subscribe"), st.fixed_dictionaries({
    "patterns": PATTERNS, "start": START, "until": UNTIL, "policy": st.sampled_from(["spill", "block"]),
    "max_messages": st.integers(1, 8), "max_bytes": st.integers(1, 500)}))
PUBLISH = st.tuples(st.just("publish"), st.lists(BATCH, min_size=1, max_size=3))
PLAIN = [st.tuples(st.just(step), st.integers(0, 20)) for step in ("commit", "tell", "read", "read", "take", "take")]
EARLY = st.tuples(st.just("early"), st.booleans())
TRIM = st.tuples(st.just("trim"), st.tuples(PATTERNS, WHERE))


@pytest.fixture(autouse=True, params=[0, 200, 4 << 20], ids=["no tail", "short tail", "long tail"])
def tail(request, monkeypatch):
    monkeypatch.setattr(fanout, "_TAIL_BYTES", request.param)


class Play(Stage):
    """Makes steps; knows for each reader what it has to get."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.asked = []

    def step(self, name, argument):
        getattr(self, f"_{name}")(argument)
        for reader in self.readers:
            reader.check_bounds()

    def _publish(self, batches):
        self.publish(*((topic, [bytes(size) for size in sizes], None) for topic, sizes in batches))

    def _commit(self, _):
        self.store.commit()

    def _tell(self, _):
        self.store.tell()

    def _read(self, _):
        self.store.let_read()

    def _early(self, early):
        self.store.early = early

    def _take(self, number):
        if self.readers:
            self.readers[number % len(self.readers)].take()

    def _trim(self, argument):
        patterns, where = argument
        self.store.trim(PatternSet(patterns), round(where * self.store.bounds()[1]))

    def _subscribe(self, asked):
        asked = dict(asked)
        wanted = PatternSet(asked.pop("patterns"))
        until = asked.pop("until")
        if isinstance(until, tuple):
            until = round(until[0] * self.broker.next) + until[1]
        last = {"end": self.broker.next, None: None}.get(until, until)
        asked_start = asked.pop("start")
        gone = set() if isinstance(asked_start, tuple) and asked_start[0] == "offset" else self._gone()
        start, first, backlog = self._start(asked_start, wanted, last)
        self.subscribe(list(wanted.patterns), start=start, until=until, **asked)
        self.asked.append((wanted, first, last, backlog, gone))

    def _gone(self):
        """Return the offsets that were delivered and trimmed: who starts at "earliest" need not hear of them."""
        return {offset for batch in self.batches if self.store.get(batch.first) is None
                for offset in range(batch.first, batch.next) if offset < self.broker.next}

    def _start(self, start, wanted, last):
        """Return the start to ask for, the offset that it means, and messages that come before it."""
        kept = [batch for batch in self.batches if self.store.get(batch.first) is not None]
        mine = [message for batch in kept if batch.topic in wanted for message in batch.messages()]
        if start == "new":
            return start, self.broker.next, []
        if start == "earliest":
            return start, self.store.bounds()[0], []
        if start == "last":
            below = self.broker.next if last is None else min(self.broker.next, last)
            newest = {message.topic: message for message in mine if message.offset < below}
            return start, self.broker.next, sorted((one.offset, one.topic, one.key) for one in newest.values())
        how, value = start
        if how == "offset":
            offset = round(value * self.broker.next)
            return offset, offset, []
        if how == "last":
            offsets = [message.offset for message in mine][-value:]
            return {"last": value}, offsets[0] if offsets else self.store.bounds()[1], []
        if not kept:
            return {"time": 0}, self.store.bounds()[1], []
        time_us = kept[round(value * (len(kept) - 1))].time_us
        first = next(batch.first for batch in kept if batch.time_us >= time_us)
        return {"time": time_us / 1e6}, first, []

    def finish(self):
        self.settle()
        for reader, (wanted, first, last, backlog, gone) in zip(self.readers, self.asked):
            end = last if last is not None else self.broker.next
            expected = [message for message in self.log if message[1] in wanted and first <= message[0] < end]
            yield reader, backlog + expected, last, gone
        self.close()


@given(st.lists(st.one_of(PUBLISH, PUBLISH, SUBSCRIBE, EARLY, *PLAIN), max_size=50))
def test_every_subscription_gets_exactly_its_messages_in_order_and_is_live_in_the_end(steps):
    play = Play()

    for step in steps:
        play.step(*step)

    for reader, expected, last, _ in play.finish():
        assert reader.items == expected
        subscription = reader.subscription
        if last is not None and last <= play.broker.next:
            assert subscription.ended
        else:
            assert subscription.live
            assert subscription.position == play.broker.next


@given(st.lists(st.one_of(PUBLISH, PUBLISH, SUBSCRIBE, TRIM, EARLY, *PLAIN), max_size=50))
def test_what_is_trimmed_under_a_reader_is_told_by_a_gap_in_its_place(steps):
    play = Play()

    for step in steps:
        play.step(*step)

    for reader, expected, _, gone in play.finish():
        reader.check_told(expected, gone, exact=False)
        assert {gap.why for gap in reader.gaps} <= {"retention"}
        assert reader.subscription.live or reader.subscription.ended


@given(st.lists(st.one_of(PUBLISH, PUBLISH, SUBSCRIBE, EARLY, *PLAIN), max_size=50), st.integers(1, 20))
def test_retention_by_count_under_readers_loses_nothing_silently(steps, max_messages):
    play = Play(retention=(Retention("a.>", max_messages=max_messages), Retention(">", max_messages=2 * max_messages)),
                retention_interval_s=1000.0)

    for step in steps:
        play.step(*step)

    for reader, expected, _, gone in play.finish():
        reader.check_told(expected, gone, exact=False)


def test_what_retention_takes_before_it_is_delivered_is_told_to_who_began_in_between():
    stage = Stage(retention=(Retention("a", max_messages=1),), retention_interval_s=1000.0)
    stage.publish(("b", [0], None), ("a", [1, 2], None))
    stage.store.commit()        # and trimmed at once, while nothing is delivered yet

    reader = stage.subscribe("a", start="earliest", max_messages=1)
    stage.settle()

    reader.check_told(stage.log[1:])
    stage.close()
