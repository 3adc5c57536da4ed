"""Filters in the server pass what a chain behind an unfiltered subscription passes, whatever happens in between."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hand_store import Stage
from zstreampub import fanout, sifter
from zstreampub.broker import Broker
from zstreampub.errors import SlowConsumer
from zstreampub.filters import sieve
from zstreampub.filters.chain import Chain
from zstreampub.filters.opened import OpenedBatch
from zstreampub.filters.sieve import Sieve
from zstreampub.message import Batch
from zstreampub.topics import matches

# A step of a test is a step of the broker, however slow the machine.
sifter._TURN_S = 60.0

NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 2.0, float("nan"), float("inf"), True, False, None]))
VALUES = st.one_of(NUMBERS, st.sampled_from(["", "a", "b", "2024-05-01T12:00:00.1Z", b"a", b"b", [], {}, {"y": 1}]))
PAYLOADS = st.one_of(VALUES, st.fixed_dictionaries({}, optional={
    "x": VALUES, "t": st.floats(0, 2), "deep": st.fixed_dictionaries({"y": VALUES})}))
KEYS = st.sampled_from((None, None, "k", "l", b"k"))
HEADERS = st.one_of(st.none(), st.fixed_dictionaries({}, optional={"h.1": NUMBERS, "at": st.floats(0, 2)}))

COMPARED = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, "a", b"b"]))
CONDITIONS = st.one_of(
    st.sampled_from([1, 2.0, True, False, None, "a", b"a"]),
    st.dictionaries(st.sampled_from(["lt", "le", "gt", "ge"]), COMPARED, min_size=1),
    st.fixed_dictionaries({"in": st.lists(st.sampled_from([0, 1, 2.0, True, "a", b"a", None]), min_size=1)}),
    st.fixed_dictionaries({"ne": COMPARED, "not_in": st.lists(COMPARED, min_size=1)}),
    st.fixed_dictionaries({"exists": st.booleans()}))
FIELDS = st.sampled_from(["payload", "payload.x", "payload.deep.y", "headers.h.1", "key", "id", "topic", "offset",
                          "time"])
STATELESS = st.one_of(
    st.fixed_dictionaries({"max_size": st.integers(1, 20)}),
    st.fixed_dictionaries({"where": st.dictionaries(FIELDS, CONDITIONS, min_size=1, max_size=2)}))
PER = {"per": st.sampled_from(["topic", "key", None])}
RATES = st.one_of(
    st.fixed_dictionaries({"every": st.integers(1, 4)}, optional=PER),
    st.fixed_dictionaries({"min_period": st.sampled_from([1e-6, 0.1, 0.5]),
                           "by": st.sampled_from(["time", "payload.t", "payload.x", "headers.at"])}, optional=PER))
FILTERS = st.lists(st.one_of(STATELESS, RATES), min_size=1, max_size=3)

TOPICS = ("a", "a.b", "b")
MESSAGES = st.lists(st.tuples(PAYLOADS, KEYS), min_size=1, max_size=6)
PUBLISH = st.tuples(st.just("publish"), st.lists(st.tuples(st.sampled_from(TOPICS), MESSAGES), min_size=1, max_size=3))
STEPS = st.lists(st.one_of(PUBLISH, PUBLISH, *(
    st.tuples(st.just(step), st.none()) for step in ("commit", "tell", "tell", "read", "take", "take"))), max_size=40)
BOUNDS = st.fixed_dictionaries({"max_messages": st.integers(1, 6), "max_bytes": st.integers(1, 400)})


@pytest.fixture(params=[1, 4096], ids=["pieces of 1", "one piece"])
def pieces(request, monkeypatch):
    for name in ("_PIECE_MESSAGES", "_OPENED_MESSAGES", "_PART_MESSAGES"):
        monkeypatch.setattr(sieve, name, request.param)


@pytest.fixture(params=[0, 4 << 20], ids=["no tail", "tail"])
def tail(request, monkeypatch):
    monkeypatch.setattr(fanout, "_TAIL_BYTES", request.param)


def play(stage, readers, steps):
    """Do *steps*; after each the queues keep their bounds."""
    for step, argument in steps:
        if step == "publish":
            stage.publish(*((topic, [payload for payload, _ in messages], [key for _, key in messages])
                            for topic, messages in argument))
        elif step == "commit":
            stage.store.commit()
        elif step == "tell":
            stage.store.tell()
        elif step == "read":
            stage.store.let_read()
        else:
            for reader in readers:
                reader.take()
        for reader in readers:
            reader.check_bounds()


def passing(stage, filters, pattern=">"):
    """Return what a chain passes of all messages of *pattern*."""
    chain = Chain(filters)
    messages = [message for batch in stage.batches if matches(pattern, batch.topic) for message in batch.messages()]
    return [(one.offset, one.topic, one.key) for one in messages if chain(one) is not None]


@pytest.mark.usefixtures("pieces")
@given(FILTERS, st.lists(st.lists(st.tuples(PAYLOADS, KEYS, HEADERS), min_size=1, max_size=9), min_size=1, max_size=3))
def test_a_sieve_on_batches_passes_what_a_chain_on_messages_passes(filters, batches):
    chain, one_sieve, first = Chain(filters), Sieve(filters), 0
    passed, expected = [], []

    for messages in batches:
        payloads, keys, headers = zip(*messages)
        batch = Batch.of("a.b", payloads, keys, headers=headers)
        batch.seal(first, 1_000_000 + first * 70_000)
        first = batch.next
        for part in one_sieve.parts(OpenedBatch(batch)):
            passed += [] if part is None else [message.as_map() for message in part.messages()]
        expected += [message.as_map() for message in map(chain, batch.messages()) if message is not None]

    assert repr(passed) == repr(expected)       # as NaN is not equal to itself


@pytest.mark.usefixtures("tail", "pieces")
@pytest.mark.parametrize("policy", ["spill", "block"])
@given(FILTERS, BOUNDS, st.sampled_from([">", "a", "a.*"]), STEPS)
def test_live_and_replayed_subscriptions_get_what_a_chain_passes(policy, filters, bounds, pattern, steps):
    stage = Stage()
    live = stage.subscribe(pattern, policy=policy, filters=filters, **bounds)
    half = len(steps) // 2

    play(stage, [live], steps[:half])
    late = stage.subscribe(pattern, start="earliest", filters=filters, **bounds)
    play(stage, [live, late], steps[half:])
    stage.settle()

    assert live.items == late.items == passing(stage, filters, pattern)
    for reader in (live, late):
        assert reader.subscription.live
        assert reader.subscription.position == stage.broker.next
    described = live.subscription.describe()
    wanted = [message for message in stage.log if matches(pattern, message[1])]
    assert described["filtered"] == len(wanted) - len(live.items)
    assert Counter(stage.replies) == Counter(stage.appends), "each publisher got one answer"
    stage.close()


@pytest.mark.usefixtures("tail")
@given(FILTERS, BOUNDS, STEPS, st.floats(0, 1))
def test_a_bounded_subscription_with_filters_ends_where_it_should(filters, bounds, steps, where):
    stage = Stage()
    play(stage, [], steps)
    until = round(where * stage.broker.next)
    reader = stage.subscribe(">", start="earliest", until=until, filters=filters, **bounds)
    stage.settle()

    assert reader.items == [message for message in passing(stage, filters) if message[0] < until]
    assert reader.subscription.ended
    stage.close()


@pytest.mark.usefixtures("tail")
@pytest.mark.parametrize("policy", ["drop", "drop_oldest", "conflate"])
@given(FILTERS, BOUNDS, STEPS)
def test_what_a_lossy_policy_loses_of_the_wanted_is_told_in_its_place(policy, filters, bounds, steps):
    stage = Stage()
    reader = stage.subscribe(">", policy=policy, filters=filters, **bounds)

    play(stage, [reader], steps)
    stage.settle()

    expected = passing(stage, filters)
    reader.check_told(expected)
    described = reader.subscription.describe()
    assert described["dropped"] + described["conflated"] == len(expected) - len(reader.messages)
    assert reader.subscription.position == stage.broker.next
    assert stage.replies == stage.appends
    stage.close()


@pytest.mark.usefixtures("tail")
@pytest.mark.parametrize("policy", ["spill", "drop", "drop_oldest", "conflate", "disconnect", "block"])
@given(st.lists(STATELESS, min_size=1, max_size=2), BOUNDS, STEPS)
def test_whoever_stops_at_any_time_and_resumes_at_the_position_misses_nothing(policy, filters, bounds, steps):
    stage = Stage()
    reader = stage.subscribe(">", policy=policy, filters=filters, **bounds)

    play(stage, [reader], steps)
    position = reader.subscription.position
    error = reader.subscription.error
    assert error is None or (isinstance(error, SlowConsumer) and error.resume == position)
    reader.subscription.close()
    again = stage.subscribe(">", start=position, filters=filters)
    stage.settle()

    assert reader.subscription.position == position
    expected = passing(stage, filters)
    seen = {offset for offset, _, _ in reader.messages}
    gone = {offset for gap in reader.gaps for offset in range(gap.first, gap.next)}
    assert all(offset >= position or offset in seen | gone for offset, _, _ in expected)
    assert all(offset < position for offset in seen), "what was taken does not come again"
    assert again.items == [message for message in expected if message[0] >= position]
    stage.close()


@given(FILTERS, MESSAGES)
def test_headers_only_leaves_out_the_payload_and_nothing_else(filters, messages):
    payloads, keys = zip(*messages)
    with Broker.open("memory:") as broker:
        broker.publish_many("a", payloads, keys=list(keys))

        whole = [message.as_map() for message in broker.subscribe("a", start=0, until="end", filters=filters)]
        bare = [message.as_map() for message in broker.subscribe("a", start=0, until="end",
                                                                 filters=[{"headers_only": True}, *filters])]

    assert bare == [{**message, "payload": None} for message in whole]
