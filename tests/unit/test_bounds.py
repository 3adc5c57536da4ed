"""What one reader, publisher or connection can make the server hold in memory."""

import gevent
import pytest
import zerorpc
from gevent.event import Event

from tests.hand_store import Stage
from zstreampub import fanout, outbound, wire
from zstreampub import lane as lane_module
from zstreampub.broker import Broker
from zstreampub.channels import Channel, Peer
from zstreampub.lane import Lane
from zstreampub.methods import Functor, MethodCall
from zstreampub.requests import parse_publishing
from zstreampub.settings import Settings
from zstreampub.stores import producers, state
from zstreampub.topics import PatternSet


class FullPipes:
    """A transport whose pipes take nothing before ``open`` is set."""

    malformed = 0

    def __init__(self):
        self.open = False
        self.sent = []
        self.took_one = Event()

    def send(self, peer, *parts):
        if self.open:
            self.sent.append((peer, b"".join(parts)))
            self.took_one.set()
        return self.open

    def close(self, linger_ms):
        pass


class Restless(Channel):
    """A stream that always has something to do."""

    queued = False

    def pump(self):
        self.lane.line_up(self)


@pytest.fixture
def lane():
    one = Lane(None, Settings(), frozenset(), None, None)
    yield one
    one.close()


@pytest.fixture
def pipes(lane):
    return lane.attach(lambda *_: FullPipes())


def test_a_full_pipe_is_tried_again_while_others_are_busy(lane, pipes):
    peer, busy = Peer(b"full", pipes), Restless(lane, Peer(b"busy", pipes), b"id")
    lane.register(busy)
    lane.line_up(busy)
    lane.send(peer, b"answer")

    pipes.open = True

    with gevent.Timeout(10):
        pipes.took_one.wait()
    assert pipes.sent == [(b"full", b"answer")]


def test_who_has_room_again_is_sent_to_at_once_and_the_others_are_left_alone(lane, pipes, monkeypatch):
    monkeypatch.setattr(outbound, "_STUCK_S", 1000)
    for name in (b"one", b"two"):
        lane.send(Peer(name, pipes), b"answer")
    gevent.idle()
    pipes.open = True

    for id in (b"two", b"two", b"nobody"):
        lane.emptied(id)

    with gevent.Timeout(10):
        pipes.took_one.wait()
    gevent.idle()
    assert pipes.sent == [(b"two", b"answer")]
    assert lane._outbound.stuck == 1


def test_heartbeats_do_not_pile_up_before_a_full_pipe(lane, pipes):
    peer = Peer(b"full", pipes)
    channel = Channel(lane, peer, b"id")
    lane.send(peer, b"answer")

    for beat in range(1, 100):
        lane._rounds.look_at(channel, channel.seen + beat)

    assert list(peer.unsent) == [(b"answer",)]


def test_a_large_answer_to_who_does_not_read_becomes_a_small_one(lane, pipes, monkeypatch):
    monkeypatch.setattr(lane_module, "_MAX_UNSENT_BYTES", 1000)
    context, peer = zerorpc.Context(), Peer(b"full", pipes)
    methods = {"large": Functor(zerorpc.rep(lambda: bytes(900)))}

    calls = [MethodCall(lane, peer, b"%d" % number, context) for number in range(5)]
    for call in calls:
        lane.register(call)
        call.run(methods, {"message_id": call.id, "v": 3}, "large", [])
    gevent.joinall([call._task for call in calls])

    names = [wire.unpack_event(blob)[1:] for (blob,) in peer.unsent]
    assert [name for name, _ in names] == ["OK", "OK", "ERR", "ERR", "ERR"]
    assert all(args[0] == "LimitExceeded" for _, args in names[2:])


def test_what_a_held_publisher_sent_is_not_kept_for_the_sake_of_its_answer():
    stage = Stage()
    reader = stage.subscribe("a", policy="block", max_messages=1)
    order = parse_publishing("publish_many", stage.broker, ["a", [1, 2, 3]])
    append, answers = order.append, []

    stage.broker.submit(order, lambda one: answers.append(order.result(one)))
    stage.store.commit()
    stage.store.tell()

    assert not answers and not append.batches
    reader.stage.settle()
    assert answers == [(0, 3)]
    stage.close()


def test_a_reader_that_takes_as_soon_as_it_is_told_holds_no_publisher():
    stage = Stage()
    subscription = stage.broker.subscribe("a", policy="block", max_messages=1)
    subscription.on_ready = subscription.take

    stage.publish(("a", [1, 2], None))
    stage.store.settle()

    assert stage.replies == stage.appends
    subscription.close()
    stage.close()


def test_the_tail_in_memory_is_bounded_by_messages_too(monkeypatch):
    monkeypatch.setattr(fanout, "_TAIL_MESSAGES", 100)
    with Broker.open("memory:") as broker:
        for _ in range(5):
            broker.publish_many("a", [None] * 40)

        assert broker.tail_from(119) is None
        assert [batch.first for batch in broker.tail_from(120)] == [120, 160]


def test_producers_whose_records_are_large_are_forgotten_the_longest_idle_first(monkeypatch):
    monkeypatch.setattr(producers, "_MOST_BYTES", 2_500)
    known = producers.Producers(limit=100)

    for name in (b"a", b"b", b"a", b"c"):
        sequences = known.sequences(name)
        producers.remember(sequences, len(sequences), list(range(100)))
        known.keep({name: sequences}, time_us=1)

    assert [name for name in (b"a", b"b", b"c") if known.record(name) is None] == [b"b"]
    assert known.changed == {b"a", b"b", b"c"}
    known.keep({b"a": {}, b"c": {}}, time_us=2)
    again = producers.Producers(limit=100)
    again.load((name, known.record(name)) for name in (b"a", b"c"))
    assert len(again) == len(known) == 2


def test_readers_with_the_same_patterns_share_what_they_select(monkeypatch):
    topics = state.Topics(())
    for id in range(1, 11):
        topics.add(state.Topic(id, f"a.{id}"))

    first = topics.select(PatternSet(["a.*"]))
    assert topics.select(PatternSet(["a.*"])) is first

    topics.add(state.Topic(11, "b"))
    assert topics.select(PatternSet(["a.*"])).topics is first.topics
    topics.add(state.Topic(12, "a.12"))
    grown = topics.select(PatternSet(["a.*"]))
    assert grown.ids == {*range(1, 11), 12} and len(first.topics) == 10


def test_what_readers_select_is_bounded_over_all_patterns(monkeypatch):
    monkeypatch.setattr(state, "_SELECTED", 25)
    topics = state.Topics(())
    for id in range(1, 11):
        topics.add(state.Topic(id, f"a.{id}"))

    for number in range(20):
        assert len(topics.select(PatternSet(["a.>", f"none.{number}.*"])).topics) == 10

    assert len(topics._selections) <= 4
