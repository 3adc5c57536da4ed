"""Streams of the lane by themselves: what a client gets for the credit that it grants."""

from types import SimpleNamespace

import gevent
import pytest
from gevent.event import Event

from zstreampub import lane as lane_module
from zstreampub import wire
from zstreampub.broker import Broker
from zstreampub.lane import Lane


class Pipe:
    """A transport that takes everything and remembers the events."""

    malformed = 0

    def __init__(self, *_):
        self.events = []
        self._took_one = Event()

    def send(self, _, blob):
        self.events.append(wire.unpack_event(blob)[1:])
        self._took_one.set()
        return True

    def wait_for(self, name):
        with gevent.Timeout(10):
            while name not in [event[0] for event in self.events]:
                self._took_one.clear()
                self._took_one.wait()

    def watch_leaving(self, left):
        pass

    def close(self, linger_ms):
        pass


@pytest.fixture
def lane(monkeypatch):
    monkeypatch.setattr(lane_module, "Transport", Pipe)
    with Broker.open("memory:") as broker:
        hooks = SimpleNamespace(wanted=False)
        one = Lane(None, broker, broker.settings, frozenset(["subscribe"]), None, hooks)
        yield one
        one.close()


@pytest.mark.parametrize("form", ["map", "batch"])
def test_a_stream_that_has_reached_its_end_uses_the_last_credits_to_say_so(lane, form):
    lane._broker.publish("a", 1)
    lane._receive(b"peer", wire.request(b"id", "subscribe", ["a", {"start": 0, "until": 1, "format": form}]))

    lane._receive(b"peer", wire.answer(b"id", b"more", wire.MORE, wire.pack((3,))))
    lane._transport.wait_for(wire.STREAM_DONE)

    names = [name for name, _ in lane._transport.events]
    assert names == [wire.STREAM] * 3 + [wire.STREAM_DONE]
    assert lane._transport.events[2][1]["why"] == "until"
    assert not lane._broker.subscriptions


@pytest.mark.parametrize("form", ["map", "batch"])
def test_credit_sends_what_waited_for_it_and_makes_no_work_for_a_stream_that_has_enough(lane, form):
    def grant(count):
        lane._receive(b"peer", wire.answer(b"id", b"more", wire.MORE, wire.pack((count,))))

    lane._receive(b"peer", wire.request(b"id", "subscribe", ["a", {"format": form}]))
    lane._transport.wait_for(wire.STREAM)
    grant(3)
    for number in range(2):     # two credits are kept in reserve: there is one to use
        lane._broker.publish("a", number)
    gevent.idle()
    sent_with_one = len(lane._transport.events) - 1

    grant(10)
    gevent.idle()
    sent_with_more = len(lane._transport.events) - 1
    grant(1)

    assert (sent_with_one, sent_with_more) == (1, 2)
    assert not lane._line
