"""The broker: its limits, its answers, and what happens to whoever waits on it."""

import gc

import gevent
import pytest
from gevent.event import Event

from tests.hand_store import Stage, let_run
from zstreampub.broker import Broker
from zstreampub.errors import (
    BatchTooLarge,
    EpochMismatch,
    InvalidOption,
    InvalidPayload,
    InvalidTopic,
    LimitExceeded,
    MessageTooLarge,
    OffsetOutOfRange,
    Overloaded,
    RequestTimeout,
    ServerDraining,
    SlowConsumer,
    StoreClosed,
    StoreError,
    StoreFull,
    Unsubscribed,
)
from zstreampub.message import Batch
from zstreampub.settings import Settings
from zstreampub.store import Append
from zstreampub.stores.memory import MemoryStore
from zstreampub.topics import PatternSet


@pytest.fixture(autouse=True)
def deadline():
    with gevent.Timeout(30):
        yield


@pytest.fixture
def broker():
    with Broker.open("memory:", Settings(
            max_message_bytes=100, max_batch_messages=5, max_batch_bytes=2048, max_patterns=3, max_subscriptions=2,
            max_queue_messages=50, max_queue_bytes=5000, queue_messages=10, queue_bytes=1000)) as broker:
        yield broker


# --- publishing ----------------------------------------------------------------------------------


def test_publish_returns_the_offset_and_the_message_can_be_looked_up(broker):
    first = broker.publish("a", {"x": 1}, headers={"h": 1}, key="k", id=b"i")
    second = broker.publish_many("a", [1, 2], keys=["k", None])

    message = broker.get(first)
    assert (message.payload, message.headers, message.key, message.id) == ({"x": 1}, {"h": 1}, "k", b"i")
    assert second == (first + 1, first + 3)
    assert broker.last("a").offset == first + 2
    assert broker.last("a", "k").offset == first + 1
    assert broker.last("a", "other") is None
    assert broker.last("b") is None
    assert broker.get(first + 3) is None


def test_what_was_published_is_let_go_of_without_a_garbage_collection(broker):
    broker.publish("a", 1)
    let_run()
    gc.collect()
    gc.disable()
    before = appends()
    try:
        broker.publish("a", 2)
        broker.publish_many("a", [3, 4])
        let_run()

        assert appends() <= before
    finally:
        gc.enable()


def appends():
    """Return the appends that are in memory still."""
    return {one for one in gc.get_objects() if type(one) is Append}


def test_what_repeats_an_id_is_delivered_once_though_its_append_has_something_new(broker):
    subscription = broker.subscribe(">", until=3)
    original = broker.publish("a", 1, id="x")

    firsts = broker.append_and_wait(Append([Batch.of("b", [2]), Batch.of("a", [1], ids=["x"]), Batch.of("b", [3])]))

    assert firsts == [1, original, 2]
    assert [message.payload for message in subscription] == [1, 2, 3]


def test_a_message_may_have_the_limit_and_not_one_byte_more(broker):
    broker.publish("a", bytes(98))
    broker.publish_many("a", [bytes(98), "small"])

    with pytest.raises(MessageTooLarge):
        broker.publish("a", bytes(99))
    with pytest.raises(MessageTooLarge):
        broker.publish_many("a", ["small", bytes(99)])
    assert broker.next == 3


def test_a_batch_may_have_the_most_messages_and_not_one_more(broker):
    assert broker.publish_many("a", [1] * 5) == (0, 5)

    for payloads in ([1] * 6, []):
        with pytest.raises(BatchTooLarge):
            broker.publish_many("a", payloads)
    for no_list in (None, 5, "text"):
        with pytest.raises(InvalidPayload):
            broker.publish_many("a", no_list)


def test_a_batch_may_have_the_most_bytes_and_not_one_more(broker):
    batch = Batch.of("a", [1], headers=[{"h": bytes(2048 - 46 - 12)}])
    fits = Batch.of("a", [1], headers=[{"h": bytes(2048 - 46 - 12 - (batch.size - 2048))}])
    larger = Batch.of("a", [1], headers=[{"h": bytes(2048 - 46 - 12 - (batch.size - 2048) + 1)}])
    assert (fits.size, larger.size) == (2048, 2049)

    assert broker.append_and_wait(Append([fits])) == [0]
    with pytest.raises(BatchTooLarge):
        broker.append_and_wait(Append([larger]))


def test_what_waits_for_the_disk_is_bounded_and_room_comes_back():
    stage = Stage(max_pending_bytes=1024)
    stage.publish(("a", [bytes(500)], None))

    with pytest.raises(Overloaded):
        stage.broker.append(Append([Batch.of("a", [bytes(500)])]))
    stage.store.settle()
    stage.publish(("a", [bytes(500)], None))
    stage.store.settle()

    assert [append.error for append in stage.replies] == [None, None]
    assert stage.broker.pending_bytes == 0


def test_one_append_that_is_larger_than_the_bound_goes_through_alone():
    stage = Stage(max_pending_bytes=1024)

    stage.publish(("a", [bytes(5000)], None))
    stage.store.settle()

    assert stage.replies[0].error is None


@pytest.mark.parametrize("keys", [5, "ab", {"a": 1}, [1, 2]])
def test_keys_that_are_no_column_are_the_callers_error(broker, keys):
    with pytest.raises(InvalidPayload):
        broker.publish_many("a", [1, 2], keys=keys)


def test_a_publisher_that_is_killed_while_it_waits_has_published_all_the_same():
    stage = Stage()
    reader = stage.subscribe("a")
    publisher = gevent.spawn(stage.broker.publish, "a", 1)
    let_run()
    assert stage.store.pending == 1

    publisher.kill()
    stage.store.settle()
    reader.take_all()

    assert [offset for offset, _, _ in reader.messages] == [0]
    assert stage.broker.pending_bytes == 0


def test_a_publisher_waits_no_longer_than_it_says():
    stage = Stage()

    with pytest.raises(RequestTimeout, match=r"0\.001 s"):
        stage.broker.publish("a", 1, timeout_s=0.001)


def test_a_timeout_of_the_callers_own_stays_its_own():
    stage = Stage()

    with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.001) as own:
        stage.broker.publish("a", 1)

    assert caught.value is own


def test_a_full_store_refuses_and_everything_else_goes_on():
    with Broker.open("memory:", Settings(max_store_bytes=1 << 20)) as broker, broker.subscribe() as subscription:
        broker.publish("a", bytes(900_000))

        with pytest.raises(StoreFull):
            broker.publish("a", bytes(900_000))

        assert broker.failed is None
        assert broker.publish("a", 1) == 1
        assert [subscription.get(5).first, subscription.get(5).first] == [0, 1]


class DyingStage(Stage):
    def die(self):
        for append in self.store._pending:
            append.error = StoreError("the writer died")
        dead, self.store._pending = self.store._pending, []
        self.store._follower(dead)


def test_a_store_that_dies_fails_its_publishers_and_tells_whoever_watches():
    stage = DyingStage()
    told = []
    stage.broker.on_failed = told.append
    stage.publish(("a", [1], None))

    stage.die()

    assert type(stage.replies[0].error) is StoreError
    assert told == [stage.broker.failed]
    with pytest.raises(StoreError):
        stage.broker.publish("a", 1)


def test_a_callback_that_fails_harms_nobody_else(caplog):
    stage = Stage()
    broken, good = stage.broker.subscribe("a"), stage.subscribe("a")
    broken.on_ready = lambda: 1 / 0
    append = Append([Batch.of("a", [1])], reply=lambda _: 1 / 0)

    stage.broker.append(append)
    stage.publish(("a", [2], None))
    stage.store.settle()
    good.take_all()

    assert [offset for offset, _, _ in good.messages] == [0, 1]
    assert stage.replies == stage.appends
    assert stage.broker.failed is None
    assert caplog.text.count("ZeroDivisionError") >= 2
    broken.on_ready = lambda: None
    assert broken.take().first == 0, "the reader itself lost nothing"


# --- subscribing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("patterns", [["a", "b", "c", "d"], []])
def test_a_subscription_has_one_to_the_most_patterns(broker, patterns):
    with pytest.raises(LimitExceeded):
        broker.subscribe(patterns)


@pytest.mark.parametrize("patterns", ["a..b", ["a", 5], [b"a"], [None], "x" * 256, 5, {"a": 1}])
def test_a_bad_pattern_is_refused_by_name(broker, patterns):
    with pytest.raises(InvalidTopic):
        broker.subscribe(patterns)


def test_nothing_means_every_topic(broker):
    assert broker.subscribe(None).wanted.patterns == (">",)


def test_there_are_no_more_subscriptions_than_the_limit_and_room_comes_back(broker):
    first = broker.subscribe("a")
    broker.subscribe("a")

    with pytest.raises(LimitExceeded):
        broker.subscribe("a")
    first.close()
    broker.subscribe("a")


@pytest.mark.parametrize("options", [
    {"start": "newest"}, {"start": None}, {"start": True}, {"start": 1.5}, {"start": {}}, {"start": {"time": "now"}},
    {"start": {"time": -1}}, {"start": {"time": float("nan")}}, {"start": {"last": 0}}, {"start": {"last": 1.5}},
    {"start": {"last": 1, "time": 2}}, {"start": []}, {"until": "start"}, {"until": -1}, {"until": 1 << 62},
    {"until": True}, {"max_messages": 0}, {"max_messages": 51}, {"max_messages": "5"}, {"max_messages": True},
    {"max_bytes": 0}, {"max_bytes": 5001}, {"block_timeout_s": -1}, {"block_timeout_s": 61},
    {"block_timeout_s": float("nan")}, {"block_timeout_s": True}, {"policy": "none"}, {"policy": ""}], ids=str)
def test_an_option_out_of_its_range_is_refused(broker, options):
    with pytest.raises(InvalidOption):
        broker.subscribe("a", **options)
    assert not broker.subscriptions


@pytest.mark.parametrize("start", [-1, 1, 2**63, -0.5 - 0.5])
def test_a_start_outside_the_log_is_refused(broker, start):
    with pytest.raises(OffsetOutOfRange):
        broker.subscribe("a", start=start)


def test_whole_floats_are_integers_because_javascript_sends_them(broker):
    broker.publish("a", 1)

    subscription = broker.subscribe("a", start=0.0, until=1.0, max_messages=5.0)

    assert [message.payload for message in subscription] == [1]


def test_the_bounds_of_the_queue_may_be_the_largest_allowed(broker):
    queue = broker.subscribe("a", max_messages=50, max_bytes=5000).queue

    assert (queue.max_messages, queue.max_bytes) == (50, 5000)


def test_an_offset_of_another_log_is_refused(broker):
    broker.subscribe("a", start=0, epoch=broker.epoch)

    with pytest.raises(EpochMismatch) as caught:
        broker.subscribe("a", start=0, epoch="f" * 32)
    assert caught.value.epoch == broker.epoch


def test_unsubscribe_ends_the_subscription_with_a_place_to_resume_from(broker):
    broker.publish("a", 1)
    subscription = broker.subscribe("a")

    assert broker.unsubscribe(subscription.id) is True
    assert broker.unsubscribe(subscription.id) is False

    with pytest.raises(Unsubscribed) as caught:
        subscription.get(5)
    assert caught.value.resume == 1
    for id in (None, 5, [], {}, b"id"):
        with pytest.raises(InvalidOption):
            broker.unsubscribe(id)


def test_a_subscription_that_ends_leaves_nothing_behind(broker):
    for _ in range(3):
        broker.subscribe(["a.*", "b", "a.*"], until=100).close()

    assert (broker.subscriptions, broker._fan_out._bounded, broker._fan_out._patterns._root) == ({}, {}, {})


def test_last_of_each_topic_ends_where_until_says():
    with Broker.open("memory:") as broker:
        for topic in ("a", "b", "a", "b"):
            broker.publish(topic, 1)

        got = [message.offset for message in broker.subscribe(start="last", until=3)]

    assert got == [1, 2]


@pytest.mark.parametrize(("topic", "key"), [("a..b", None), (5, None), ("a.*", None)])
def test_last_wants_a_topic(broker, topic, key):
    with pytest.raises(InvalidTopic):
        broker.last(topic, key)


def test_last_wants_a_key_that_can_be_one(broker):
    broker.publish("a", 1, key="k")

    for key in (5, [], {}, 1.5):
        with pytest.raises(InvalidOption):
            broker.last("a", key)


# --- holding publishers --------------------------------------------------------------------------


def held(stage, **options):
    """A full subscription under ``block`` and a publish that it holds."""
    reader = stage.subscribe("a", policy="block", max_messages=2, **options)
    stage.publish(("a", [1, 2], None))
    stage.publish(("a", [3], None))
    stage.store.settle()
    assert stage.replies == stage.appends[:1]
    return reader


def test_block_holds_the_publishers_of_its_topics_and_nobody_else():
    stage = Stage()
    reader = held(stage)

    stage.publish(("b", [1], None))
    stage.store.settle()

    assert stage.replies == [stage.appends[0], stage.appends[2]]
    assert reader.subscription.describe()["holding"] == 1
    stage.close()


def test_a_held_publisher_is_answered_when_there_is_room():
    stage = Stage()
    held(stage)

    stage.settle()

    assert stage.replies == stage.appends
    stage.close()


def test_closing_the_subscription_answers_the_publishers_that_it_holds():
    stage = Stage()
    reader = held(stage)

    reader.subscription.close()

    assert stage.replies == stage.appends


def test_a_subscription_that_holds_for_too_long_is_disconnected_and_loses_nothing():
    stage = Stage()
    ended = Event()
    reader = held(stage, block_timeout_s=0.01)
    reader.subscription.on_ready = ended.set

    assert ended.wait(10)

    assert isinstance(reader.subscription.error, SlowConsumer)
    assert reader.subscription.error.resume == 0
    assert stage.replies == stage.appends
    again = stage.subscribe("a", start=0)
    stage.settle()
    assert len(again.messages) == 3


def test_two_subscriptions_that_hold_are_both_waited_for_and_the_answer_comes_once():
    stage = Stage()
    readers = [stage.subscribe("a", policy="block", max_messages=1) for _ in range(2)]
    stage.publish(("a", [1], None), ("a", [2], None))
    stage.store.settle()

    readers[0].take_all()
    stage.store.settle()
    assert not stage.replies
    readers[1].take_all()
    stage.store.settle()
    readers[1].subscription.close()
    readers[0].subscription.close()

    assert stage.replies == stage.appends


def test_whoever_replays_for_the_first_time_holds_nobody():
    stage = Stage()
    stage.publish(("a", [1] * 5, None))
    stage.store.settle()
    stage.subscribe("a", policy="block", start="earliest", max_messages=1)

    stage.publish(("a", [6], None))
    stage.store.commit()
    stage.store.tell()

    assert stage.replies == stage.appends
    stage.close()


def test_nobody_is_held_for_messages_behind_the_end_of_a_bounded_subscription():
    stage = Stage()
    reader = stage.subscribe("a", policy="block", max_messages=1, until=3)
    stage.publish(("a", [1, 2], None))
    stage.store.settle()
    assert not stage.replies

    stage.publish(("a", [3, 4, 5], None))
    stage.publish(("a", [6], None))
    stage.store.settle()
    assert stage.replies == stage.appends[2:], "offset 5 is behind until"
    reader.take()
    stage.store.settle()
    reader.take()
    stage.store.settle()

    assert set(stage.replies) == set(stage.appends)
    assert not reader.subscription.error
    stage.close()


# --- ending --------------------------------------------------------------------------------------


def test_drain_answers_what_is_pending_then_ends_all_subscriptions():
    stage = Stage()
    reader = stage.subscribe("a")
    stage.publish(("a", [1], None))
    draining = gevent.spawn(stage.broker.drain, 10)
    let_run()

    assert not reader.subscription.ended
    with pytest.raises(ServerDraining):
        stage.broker.publish("a", 2)
    with pytest.raises(ServerDraining):
        stage.broker.subscribe("a")
    stage.store.settle()
    draining.get(timeout=10)

    assert stage.replies == stage.appends
    assert isinstance(reader.subscription.error, ServerDraining)
    assert reader.subscription.error.resume == 0


def test_who_looks_for_its_start_while_the_broker_drains_is_refused(monkeypatch):
    stage = Stage()
    looking = Event()
    found = Event()

    def offset_at(_):
        looking.set()
        found.wait()
        return 0

    monkeypatch.setattr(stage.store, "offset_at", offset_at)
    late = gevent.spawn(stage.broker.subscribe, "a", start={"time": 0})
    looking.wait(10)
    stage.broker.drain(10)
    found.set()

    with pytest.raises(ServerDraining):
        late.get(timeout=10)
    assert not stage.broker.subscriptions


def test_drain_releases_held_publishers():
    stage = Stage()
    held(stage)

    stage.broker.drain(10)

    assert stage.replies == stage.appends


def test_a_closed_broker_refuses_and_closing_again_does_nothing():
    broker = Broker.open("memory:")
    subscription = broker.subscribe()
    broker.close()
    broker.close()

    with pytest.raises((StoreClosed, ServerDraining)):
        broker.publish("a", 1)
    with pytest.raises(ServerDraining):
        subscription.get(5)


def test_a_store_that_refuses_an_append_leaves_nothing_pending(monkeypatch):
    stage = Stage()
    monkeypatch.setattr(stage.store, "append", MemoryStore.append.__get__(stage.store))
    stage.store.close()

    with pytest.raises(StoreClosed):
        stage.broker.publish("a", 1)
    assert stage.broker.pending_bytes == 0
    stage.broker.drain(10)


def test_stats_and_descriptions_are_plain_maps(broker):
    broker.subscribe("a.>", name="mine", policy="drop")
    broker.publish("a.b", 1)

    described, = broker.describe_subscriptions()
    stats = broker.stats()

    assert (described["name"], described["policy"], described["state"], described["lag"]) == ("mine", "drop", "live", 1)
    assert (stats["published"], stats["next"], stats["subscriptions"], stats["pending_bytes"]) == (1, 1, 1, 0)
    assert broker.topics() == [{"topic": "a.b", "messages": 1, "bytes": 40, "next": 1}]


def test_another_thread_is_sent_to_the_bridge_and_stores_nothing(broker):
    def use_it_there():
        for use in (lambda: broker.publish("a", 1), lambda: broker.subscribe("a"), broker.for_threads):
            with pytest.raises(RuntimeError, match="for_threads"):
                use()

    gevent.get_hub().threadpool.apply(use_it_there)

    assert broker.publish("a", 2) == 0


def test_a_topic_of_which_nothing_is_kept_is_not_listed(broker):
    broker.publish("a", 1)
    broker.publish("b", 1)

    broker.store.trim(PatternSet(["a"]), broker.next)

    assert [topic["topic"] for topic in broker.topics()] == ["b"]


def test_a_long_fan_out_gives_others_a_turn_and_keeps_the_order(monkeypatch):
    monkeypatch.setattr("zstreampub.fanout._TURN_S", 0.0)       # a turn for each batch
    stage = Stage()
    subscription = stage.broker.subscribe("a")
    for number in range(4):
        stage.publish(("a", [number], None), ("b", [number], None))

    stage.store.settle()
    while stage.broker.next < 8:
        gevent.idle()

    assert stage.broker.stats()["deliver_us"]["count"] >= 8, "each batch had a turn of its own"
    assert [append.firsts for append in stage.replies] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [subscription.take().first for _ in range(4)] == [0, 2, 4, 6]
