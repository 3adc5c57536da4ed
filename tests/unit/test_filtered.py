"""A subscription with filters, as the broker serves it: what it keeps, where it stands, and what it costs others."""

import itertools

import gevent
import msgpack
import pytest
from gevent.event import Event

from tests.hand_store import Stage, let_run
from zstreampub import sifter
from zstreampub.broker import Broker
from zstreampub.errors import InvalidOption, SlowConsumer, StoreCorrupt
from zstreampub.feed import BatchFeed, MapFeed
from zstreampub.filters.opened import OpenedBatch
from zstreampub.message import Batch
from zstreampub.requests import parse_subscribe
from zstreampub.store import Append, Gap
from zstreampub.topics import PatternSet

WANTED = {"where": {"payload.wanted": True}}


@pytest.fixture(autouse=True)
def deadline():
    with gevent.Timeout(30):
        yield


@pytest.fixture
def broker():
    with Broker.open("memory:") as broker:
        yield broker


@pytest.fixture(autouse=True)
def long_turns(monkeypatch):
    monkeypatch.setattr(sifter, "_TURN_S", 60.0)


def store_of(broker, batch):
    """Put *batch* into the store of *broker*, whatever is wrong with it."""
    broker.append_and_wait(Append([batch]))


def rare(count, every):
    """Return payloads of which each *every*-th is wanted."""
    return [{"wanted": at % every == 0, "at": at} for at in range(count)]


@pytest.mark.parametrize("policy", ["spill", "drop", "drop_oldest", "conflate", "disconnect", "block"])
def test_what_is_left_out_fills_no_queue(policy):
    stage = Stage()
    reader = stage.subscribe("a", policy=policy, max_messages=4, filters=WANTED)

    stage.publish(("a", rare(4000, 1000), None))
    stage.store.settle()

    described = reader.subscription.describe()
    assert [described[name] for name in ("state", "queued_messages", "filtered", "dropped")] == ["live", 4, 3996, 0]
    assert stage.replies == stage.appends, "nobody was held"
    reader.take_all()
    assert [offset for offset, _, _ in reader.items] == [0, 1000, 2000, 3000]
    stage.close()


def test_the_position_goes_past_what_is_left_out_and_no_gap_tells_of_it(broker):
    subscription = broker.subscribe("a", filters=WANTED)
    broker.publish_many("a", rare(10, 100))

    assert next(subscription).offset == 0
    let_run()
    assert (subscription.take(), subscription.position, subscription.filtered) == (None, 10, 9)
    assert broker.stats()["filtered"] == 9


def test_the_position_is_that_of_what_comes_next(broker):
    broker.publish_many("a", rare(30, 10))
    subscription = broker.subscribe("a", start="earliest", filters=WANTED)
    positions = []

    for _ in range(3):
        positions.append(next(subscription).offset)
        positions.append(subscription.position)

    assert positions == [0, 10, 10, 20, 20, 30]


def test_a_long_replay_of_unwanted_messages_says_how_far_it_is(broker):
    subscription = broker.subscribe("a", start="earliest", filters=WANTED)
    feed = BatchFeed(broker, subscription)
    feed.greeting(5.0)
    subscription.source.live = subscription.live = False        # as in the midst of a long log

    item = msgpack.unpackb(feed.keepalive())

    assert (item["control"], item["offset"]) == ("keepalive", subscription.position)


def test_no_keepalive_is_told_while_there_is_something_to_take(broker):
    subscription = broker.subscribe("a", filters=WANTED)
    broker.publish_many("a", rare(10, 2))
    let_run()

    assert BatchFeed(broker, subscription).keepalive() is None


def test_the_newest_of_each_topic_pass_the_filters_too(broker):
    for topic in "abc":
        broker.publish_many(topic, [{"wanted": True}, {"wanted": topic != "b"}])

    with broker.subscribe(">", start="last", filters=WANTED) as subscription:
        assert subscription.position == 1
        got = [next(subscription).offset, next(subscription).offset]
        broker.publish("b", {"wanted": True})
        got.append(next(subscription).offset)

    assert got == [1, 5, 6]


def test_a_bounded_subscription_ends_even_if_nothing_passes(broker):
    broker.publish_many("a", rare(10, 100)[1:])

    assert list(broker.subscribe("a", start="earliest", until="end", filters=WANTED)) == []
    bounded = broker.subscribe("a", until=broker.next + 2, filters=WANTED)
    broker.publish_many("a", rare(3, 100)[1:])
    assert list(bounded) == []
    assert not broker.subscriptions


def test_an_empty_list_of_filters_is_none(broker):
    assert type(broker.subscribe("a", filters=[])) is type(broker.subscribe("a"))


def test_block_holds_the_publisher_of_what_is_wanted_until_there_is_room():
    stage = Stage()
    reader = stage.subscribe("a", policy="block", max_messages=1, filters=WANTED)

    stage.publish(("a", [{"wanted": True}], None))
    stage.publish(("a", [{"wanted": False}] * 9, None))
    stage.publish(("a", [{"wanted": True}], None))
    stage.store.settle()

    assert stage.replies == stage.appends[:2]
    reader.take()
    let_run()
    assert stage.replies == stage.appends
    stage.close()


def test_who_blocks_for_too_long_is_disconnected_and_told_where_to_resume():
    stage = Stage()
    reader = stage.subscribe("a", policy="block", max_messages=1, block_timeout_s=0.001, filters=WANTED)

    stage.publish(("a", [{"wanted": True}, {"wanted": False}, {"wanted": True}], None))
    stage.store.settle()
    with gevent.Timeout(10):
        while not reader.subscription.ended:
            gevent.idle()

    assert isinstance(reader.subscription.error, SlowConsumer)
    assert reader.subscription.error.resume == reader.subscription.position == 0
    assert stage.replies == stage.appends
    assert not stage.broker.subscriptions


def test_a_full_queue_ends_disconnect_where_the_reader_stands():
    stage = Stage()
    reader = stage.subscribe("a", policy="disconnect", max_messages=2, filters=WANTED)

    stage.publish(("a", rare(40, 10), None))
    stage.store.settle()

    assert isinstance(reader.subscription.error, SlowConsumer)
    assert reader.subscription.error.resume == 0
    assert reader.subscription.state == "ended"
    stage.close()


def test_what_retention_took_is_told_between_the_wanted(monkeypatch):
    monkeypatch.setattr("zstreampub.fanout._TAIL_BYTES", 0)
    stage = Stage()
    stage.publish(("a", rare(10, 5), None))
    stage.publish(("a", rare(10, 5), None))
    stage.store.settle()
    stage.store.trim(PatternSet(["a"]), 10)

    reader = stage.subscribe("a", start=0, filters=WANTED)
    stage.settle()

    assert reader.gaps == [Gap(0, 10, 10, "retention")]
    assert [offset for offset, _, _ in reader.messages] == [10, 15]
    stage.close()


def test_a_log_that_cannot_be_read_ends_it_with_that_error_and_its_own_place(monkeypatch):
    stage = Stage(queue_messages=10)        # of the source: it reads one batch at a time
    stage.publish(("a", rare(10, 5), None), ("a", rare(10, 5), None))
    stage.store.settle()
    monkeypatch.setattr("zstreampub.broker.Broker.tail_from", lambda *_: None)
    read = stage.store.read

    def read_once(cursor, *more):
        if cursor >= 10:
            raise StoreCorrupt("a bad page")
        return read(cursor, *more)

    monkeypatch.setattr(stage.store, "read", read_once)
    subscription = stage.broker.subscribe("a", start=3, filters=WANTED)
    let_run()
    stage.store.let_read()

    with pytest.raises(StoreCorrupt) as caught:
        subscription.get(10)
    assert caught.value.resume == 5, "it was queued, and not taken"
    assert not stage.broker.subscriptions


@pytest.mark.parametrize("filters", [
    WANTED, {"max_size": 1}, {"every": 2}, {"headers_only": True}, {"where": {"headers.h": 9}}], ids=repr)
@pytest.mark.parametrize("hit", [b"MARK", b"\x81\xa1h"], ids=["payload", "headers"])
def test_a_damaged_batch_passes_whole_and_is_not_given_a_checksum_that_fits(broker, filters, hit):
    batch = Batch.of("a", [b"MARK", b"x", b"y"], headers=[{"h": 1}] * 3)
    assert hit in batch.packed
    store_of(broker, Batch.parse(batch.packed.replace(hit, b"\xc1" * len(hit))))

    subscription = broker.subscribe("a", start="earliest", until=3, filters=filters, max_messages=2)
    parts = [subscription.get(10), subscription.get(10)]

    assert [(part.first, part.next, part.is_sound) for part in parts] == [(0, 2, False), (2, 3, False)]
    assert subscription.filtered == 0


def test_a_reader_may_take_as_soon_as_it_is_told(broker):
    """It makes room while its batch is sifted: that must not be forgotten."""
    offsets, done = [], Event()
    broker.publish_many("a", rare(50, 1))
    subscription = broker.subscribe("a", start="earliest", until=50, filters=WANTED, max_messages=2)

    def take():
        while (batch := subscription.take()) is not None:
            offsets.extend(range(batch.first, batch.next))
        if subscription.ended:
            done.set()

    subscription.on_ready = take
    take()

    assert done.wait(10)
    assert offsets == list(range(50))


def test_a_bug_in_a_filter_ends_that_subscription_and_no_other(broker, monkeypatch, caplog):
    def fail(*_):
        raise ZeroDivisionError("a bug")

    broken, sound = broker.subscribe("a", filters=WANTED), broker.subscribe("a", filters={"max_size": 100})
    monkeypatch.setattr("zstreampub.filters.words.Where.pick", fail)

    broker.publish("a", {"wanted": True})

    assert sound.get(10).count == 1
    with pytest.raises(Exception, match="internal error"):
        broken.get(10)
    assert "ZeroDivisionError" in caplog.text


def test_a_batch_is_opened_once_for_all_who_filter_it(broker, monkeypatch):
    opened = []

    class Counted(OpenedBatch):
        def __init__(self, batch):
            opened.append(batch.first)
            super().__init__(batch)

    monkeypatch.setattr(sifter, "OpenedBatch", Counted)
    subscriptions = [broker.subscribe("a", filters={"where": {"payload.at": at}}) for at in range(20)]

    for _ in range(3):
        broker.publish_many("a", rare(20, 2))

    assert [next(one).payload["at"] for one in subscriptions] == list(range(20))
    assert opened == [0, 20, 40]


def test_few_batches_are_kept_open_and_none_when_all_is_done(broker, monkeypatch):
    most = []
    opened = broker._sifter.opened

    def counted(batch):
        most.append(broker._sifter._opened_bytes)
        return opened(batch)

    monkeypatch.setattr(broker._sifter, "opened", counted)
    subscriptions = [broker.subscribe("a", filters=WANTED) for _ in range(3)]
    broker.append_and_wait(Append([Batch.of("a", [{"wanted": True, "text": "x" * 100_000}]) for _ in range(20)]))
    for subscription in subscriptions:
        for _ in range(20):
            next(subscription)

    let_run()
    assert (len(broker._sifter._opened), broker._sifter._opened_bytes) == (0, 0)
    assert max(most) < sifter._OPENED_BYTES


def test_long_batches_are_looked_at_in_turns_and_the_others_have_theirs(broker, monkeypatch):
    monkeypatch.setattr(sifter, "perf_counter", itertools.count().__next__)
    monkeypatch.setattr(sifter, "_TURN_S", 1.5)     # by this clock: one step a turn
    long, short = broker.subscribe("a", filters=WANTED), broker.subscribe("b", filters=WANTED)
    before = broker.stats()["sift_us"]["count"]

    broker.append_and_wait(Append([Batch.of("a", rare(5000, 2)), Batch.of("b", rare(1, 1))]))
    got = [short.get(10).first, long.get(10).first]
    while got[-1] < 4998:
        got.append(long.get(10).first)

    assert got == [5000, *range(0, 5000, 2)]
    assert broker.stats()["sift_us"]["count"] - before > 10


def test_maps_of_headers_only_say_so(broker):
    broker.publish("a", {"n": 1}, headers={"h": 1}, key="k", id="i", ttl_s=1000)
    feed = MapFeed(broker, broker.subscribe("a", start="earliest", filters={"headers_only": True}))
    let_run()

    item = msgpack.unpackb(b"".join(feed.next_item()))

    assert item.pop("expires") and item.pop("time")
    assert item == {"topic": "a", "offset": 0, "payload": None, "headers": {"h": 1}, "key": "k", "id": "i",
                    "headers_only": True}


def test_a_durable_consumer_takes_no_filters(broker):
    with pytest.raises(InvalidOption, match="not for durable consumers"):
        broker.subscribe("a", consumer="c", filters=WANTED)
    with pytest.raises(InvalidOption, match="not for durable consumers"):
        parse_subscribe("a", {"consumer": "c", "filters": [WANTED]})
    assert broker.consumers.by_name == {}


def test_a_wrong_filter_is_refused_and_leaves_nothing_behind(broker):
    for filters in ({"max_sise": 1}, [WANTED] * 17, 0, ""):
        with pytest.raises(InvalidOption):
            broker.subscribe("a", filters=filters)
    assert broker.subscriptions == {}
    assert parse_subscribe("a", {"filters": [WANTED]}) == ("map", {"patterns": "a", "filters": [WANTED]})


def test_closing_in_the_midst_of_a_batch_frees_everything(broker):
    broker.publish_many("a", rare(100, 1))
    subscription = broker.subscribe("a", start="earliest", max_messages=10, filters=WANTED)
    got = [next(subscription).offset for _ in range(15)]

    subscription.close()
    let_run()

    assert got == list(range(15))
    assert subscription.position == 15
    assert (subscription.take(), subscription.ended) == (None, True)
    assert broker.subscriptions == {}
    again = broker.subscribe("a", start=subscription.position, until="end", filters=WANTED)
    assert [message.offset for message in again] == list(range(15, 100))


def test_a_message_that_expires_in_the_queue_is_told_as_any_other(broker, monkeypatch):
    subscription = broker.subscribe("a", filters=WANTED)
    broker.publish("a", {"wanted": True}, ttl_s=10)
    broker.publish("a", {"wanted": True})
    let_run()
    monkeypatch.setattr("zstreampub.subscription.now_us", lambda: 1 << 52)

    assert subscription.get(10) == Gap(0, 1, 1, "expired")
    assert subscription.get(10).first == 1


def test_who_waits_for_a_delivery_is_not_answered_by_whoever_left_it_out(broker):
    unwanting, wanting = broker.subscribe("a", filters=WANTED), broker.subscribe("a")
    publishing = gevent.spawn(broker.publish, "a", {"wanted": False}, wait="delivered", wait_timeout_s=20)
    wanting.get(10)

    answer = publishing.get(timeout=10)

    assert (answer["by"], answer["missing"], answer["complete"]) == ([wanting.id], [unwanting.id], True)
