"""The six policies with tiny queues, under generated interleavings of publishing, delivering, reading and taking."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hand_store import Stage
from zstreampub import columns, fanout
from zstreampub.errors import SlowConsumer
from zstreampub.topics import matches

TOPICS = ("a", "a.b", "b")
BATCHES = st.lists(
    st.tuples(st.sampled_from(TOPICS),
              st.lists(st.tuples(st.integers(0, 60), st.sampled_from((None, "k", "l"))), min_size=1, max_size=5)),
    min_size=1, max_size=3)
PUBLISH = st.tuples(st.just("publish"), BATCHES)
STEPS = st.lists(st.one_of(PUBLISH, PUBLISH, *(
    st.tuples(st.just(step), st.none()) for step in ("commit", "tell", "tell", "read", "take", "take"))), max_size=60)


@pytest.fixture(autouse=True, params=[0, 4 << 20], ids=["no tail", "tail"])
def tail(request, monkeypatch):
    monkeypatch.setattr(fanout, "_TAIL_BYTES", request.param)


def play(stage, reader, steps):
    """Do *steps*; after each the queue keeps its bounds."""
    for step, argument in steps:
        if step == "publish":
            stage.publish(*((topic, [bytes(size) for size, _ in messages], [key for _, key in messages])
                            for topic, messages in argument))
        elif step == "commit":
            stage.store.commit()
        elif step == "tell":
            stage.store.tell()
        elif step == "read":
            stage.store.let_read()
        else:
            reader.take()
        reader.check_bounds()


def open_stage(policy, max_messages, max_bytes, pattern):
    stage = Stage()
    reader = stage.subscribe(pattern, policy=policy, max_messages=max_messages, max_bytes=max_bytes)
    return stage, reader


def wanted(stage, pattern):
    return [message for message in stage.log if matches(pattern, message[1])]


@pytest.mark.parametrize("policy", ["spill", "block"])
@given(st.integers(1, 6), st.integers(1, 400), st.sampled_from([">", "a", "a.*"]), STEPS)
def test_spill_and_block_deliver_everything_once_and_in_order(policy, max_messages, max_bytes, pattern, steps):
    stage, reader = open_stage(policy, max_messages, max_bytes, pattern)

    play(stage, reader, steps)
    stage.settle()

    assert reader.items == wanted(stage, pattern)
    assert reader.subscription.live
    assert Counter(stage.replies) == Counter(stage.appends), "each publisher got one answer"
    stage.close()


@pytest.mark.parametrize("policy", ["drop", "drop_oldest", "conflate"])
@given(st.integers(1, 6), st.integers(1, 400), st.sampled_from([">", "a", "a.*"]), STEPS)
def test_what_a_lossy_policy_loses_is_told_by_a_gap_in_its_place(policy, max_messages, max_bytes, pattern, steps):
    stage, reader = open_stage(policy, max_messages, max_bytes, pattern)

    play(stage, reader, steps)
    stage.settle()

    expected = wanted(stage, pattern)
    reader.check_told(expected)
    assert reader.subscription.live
    lost = len(expected) - len(reader.messages)
    described = reader.subscription.describe()
    assert described["dropped"] + described["conflated"] == lost
    assert described["delivered"] == len(reader.messages)
    assert stage.replies == stage.appends
    stage.close()


@given(st.integers(1, 6), st.integers(1, 400), STEPS)
def test_conflate_keeps_the_newest_of_each_topic_and_key(max_messages, max_bytes, steps):
    stage, reader = open_stage("conflate", max_messages, max_bytes, ">")

    play(stage, reader, steps)
    stage.settle()

    newest = {(topic, key): offset for offset, topic, key in stage.log}
    received = {offset for offset, _, _ in reader.messages}
    dropped = [gap for gap in reader.gaps if gap.why == "drop_oldest"]
    for offset in newest.values():
        assert offset in received or any(gap.first <= offset < gap.next for gap in dropped)
    stage.close()


@given(st.integers(1, 6), st.integers(1, 400), st.sampled_from([">", "a", "a.*"]), STEPS)
def test_disconnect_says_where_to_resume_and_nothing_is_lost(max_messages, max_bytes, pattern, steps):
    stage, reader = open_stage("disconnect", max_messages, max_bytes, pattern)

    play(stage, reader, steps)
    stage.settle()

    error = reader.subscription.error
    if error is not None:
        assert isinstance(error, SlowConsumer)
        again = stage.subscribe(pattern, start=error.resume)
        stage.settle()
        reader.items += again.items
    assert reader.items == wanted(stage, pattern)
    stage.close()


@pytest.mark.parametrize("policy", ["spill", "drop", "drop_oldest", "conflate", "disconnect", "block"])
@given(st.integers(1, 6), st.integers(1, 400), STEPS)
def test_whoever_stops_at_any_time_and_resumes_at_the_position_misses_nothing(policy, max_messages, max_bytes, steps):
    stage, reader = open_stage(policy, max_messages, max_bytes, ">")

    play(stage, reader, steps)
    position = reader.subscription.position
    reader.subscription.close()
    again = stage.subscribe(">", start=position)
    stage.settle()

    assert reader.subscription.position == position
    seen = {offset for offset, _, _ in reader.messages}
    gone = {offset for gap in reader.gaps for offset in range(gap.first, gap.next)}
    for offset, _, _ in stage.log:
        assert offset >= position or offset in seen | gone
    assert again.items == [message for message in stage.log if message[0] >= position]
    stage.close()


@pytest.mark.parametrize("policy", ["drop", "drop_oldest", "conflate"])
def test_a_full_queue_opens_a_batch_a_few_times_however_many_messages_and_keys_it_has(policy, monkeypatch):
    opened = Counter()
    column_type = columns.Columns
    raw_payloads = column_type.raw_payloads

    def counted(self, count):
        opened["batches"] += 1
        return raw_payloads(self, count)

    monkeypatch.setattr(column_type, "raw_payloads", counted)
    stage, _ = open_stage(policy, 1000, 64 << 10, "a")

    for _ in range(3):
        stage.publish(("a", [bytes(100 + at % 7) for at in range(700)], [str(at) for at in range(700)]))
    stage.store.settle()

    assert opened["batches"] <= 30
    stage.close()
