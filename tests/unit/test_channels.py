"""Streams of the lane by themselves: what a client gets for the credit that it grants."""

from functools import partial
from types import SimpleNamespace

import gevent
import pytest
from gevent.event import Event

from zstreampub import wire
from zstreampub.broker import Broker
from zstreampub.lane import Lane


class Pipe:
    """A transport that takes everything and remembers the events."""

    malformed = 0

    def __init__(self, receive):
        self.receive = partial(receive, b"peer")
        self.events = []
        self._took_one = Event()

    def send(self, _, *parts):
        self.events.append(wire.unpack_event(b"".join(parts))[1:])
        self._took_one.set()
        return True

    def wait_for(self, name):
        with gevent.Timeout(10):
            while name not in [event[0] for event in self.events]:
                self._took_one.clear()
                self._took_one.wait()

    def close(self, linger_ms):
        pass


@pytest.fixture
def lane():
    with Broker.open("memory:") as broker:
        hooks = SimpleNamespace(wanted=False)
        one = Lane(broker, broker.settings, frozenset(["subscribe"]), None, hooks)
        yield one
        one.close()


@pytest.fixture
def pipe(lane):
    return lane.attach(lambda _, receive: Pipe(receive))


@pytest.mark.parametrize("form", ["map", "batch"])
def test_a_stream_that_has_reached_its_end_uses_the_last_credits_to_say_so(lane, pipe, form):
    lane._broker.publish("a", 1)
    pipe.receive(wire.request(b"id", "subscribe", ["a", {"start": 0, "until": 1, "format": form}]))

    pipe.receive(wire.answer(b"id", b"more", wire.MORE, wire.pack((3,))))
    pipe.wait_for(wire.STREAM_DONE)

    names = [name for name, _ in pipe.events]
    assert names == [wire.STREAM] * 3 + [wire.STREAM_DONE]
    assert pipe.events[2][1]["why"] == "until"
    assert not lane._broker.subscriptions


@pytest.mark.parametrize("form", ["map", "batch"])
def test_credit_sends_what_waited_for_it_and_makes_no_work_for_a_stream_that_has_enough(lane, pipe, form):
    def grant(count):
        pipe.receive(wire.answer(b"id", b"more", wire.MORE, wire.pack((count,))))

    pipe.receive(wire.request(b"id", "subscribe", ["a", {"format": form}]))
    pipe.wait_for(wire.STREAM)
    grant(3)
    for number in range(2):     # two credits are kept in reserve: there is one to use
        lane._broker.publish("a", number)
    gevent.idle()
    sent_with_one = len(pipe.events) - 1

    grant(10)
    gevent.idle()
    sent_with_more = len(pipe.events) - 1
    grant(1)

    assert (sent_with_one, sent_with_more) == (1, 2)
    assert lane._outbound.is_idle
