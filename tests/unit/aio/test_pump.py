"""What a pump carries ahead of its reader is bounded, in order, and cut to size."""

import weakref

import gevent
import pytest

from tests.unit.client.fake_server import turn
from zstreampub.aio import pump as pump_file
from zstreampub.aio.pump import MOST_BYTES, MOST_MESSAGES, End, SubscriptionPump, parts
from zstreampub.errors import GapError, SlowConsumer
from zstreampub.message import Batch


class Line:
    """A line whose other end is here as well."""

    def to_loop(self, function, *args):
        function(*args)


class Coroutine:
    """The reader: keeps what has arrived."""

    def __init__(self):
        self.items = []

    def arrive(self, item):
        self.items.append(item)

    @property
    def contents(self):
        return [content for content, *_ in self.items]


class Inside:
    """A subscription with these batches and errors."""

    offset = 0

    def __init__(self, script):
        self.script = iter(script)
        self.taken = 0
        self.closed = False

    def batches(self):
        for one in self.script:
            self.taken += 1
            if isinstance(one, Exception):
                raise one
            yield one

    def close(self):
        self.closed = True


def batch_of(count, payload=b"x", first=0):
    batch = Batch.of("a", [payload] * count)
    batch.seal(first, 1)
    return batch


def pumping(*script, **callbacks):
    """Return a reader, and the pump that carries *script* to it."""
    reader = Coroutine()
    pump = SubscriptionPump(Line(), weakref.ref(reader))
    pump.open(lambda **_: Inside(script), callbacks)
    pump.start()
    turn()
    return reader, pump


@pytest.mark.parametrize("count, payload, most_messages, most_bytes", [
    (10, b"x" * 10, 3, 1 << 20), (10, b"x" * 100, 10, 300), (3, b"x" * 1000, 10, 10), (1, b"", 1, 1)])
def test_a_batch_is_cut_into_parts_with_all_its_messages(count, payload, most_messages, most_bytes):
    cut = list(parts(batch_of(count, payload, first=7), most_messages, most_bytes))

    assert [message.offset for part in cut for message in part.messages()] == list(range(7, 7 + count))
    assert all(part.count <= most_messages and (part.size <= most_bytes or part.count == 1) for part in cut)


def test_a_batch_that_is_small_is_carried_as_it_is():
    batch = batch_of(3)

    assert list(parts(batch, 3, 1000)) == [batch]


def test_no_more_messages_are_ahead_than_is_said():
    reader, pump = pumping(*[batch_of(1000, first=n * 1000) for n in range(100)])

    assert sum(batch.count for batch in reader.contents) == MOST_MESSAGES // 1000 * 1000
    assert pump.inside.taken == MOST_MESSAGES // 1000 + 1


def test_no_more_bytes_are_ahead_than_is_said_but_for_one_large_message():
    small, _ = pumping(*[batch_of(1, b"x" * 100_000)] * 100)
    large, _ = pumping(*[batch_of(1, b"x" * 3 * MOST_BYTES)] * 2)

    assert sum(batch.size for batch in small.contents) <= MOST_BYTES
    assert len(small.contents) == MOST_BYTES // 100_000
    assert len(large.contents) == 1


def test_what_is_given_back_makes_room_for_more():
    reader, pump = pumping(*[batch_of(1000, first=n * 1000) for n in range(6)])
    before = len(reader.items)

    pump.give_back(*reader.items[0][1:3])
    turn()

    assert (before, len(reader.items)) == (4, 5)


def test_a_gap_is_carried_at_its_place_and_reading_goes_on():
    reader, _ = pumping(batch_of(1), GapError("Gone.", first=1, next=2), batch_of(1, first=2))

    first, gap, last, end = reader.contents
    assert (first.first, type(gap), gap.next, last.first) == (0, GapError, 2, 2)
    assert end.error is None


def test_gaps_that_nobody_reads_are_bounded_too():
    reader, _ = pumping(*[GapError("Gone.")] * (MOST_MESSAGES + 10))

    assert len(reader.items) == MOST_MESSAGES


def test_the_error_that_ends_it_is_the_last_thing_that_is_carried():
    error = SlowConsumer("Slow.", resume=1)
    reader, _ = pumping(batch_of(1), error)

    assert isinstance(reader.contents[-1], End) and reader.contents[-1].error is error


def test_a_pump_whose_reader_is_gone_carries_to_nobody_and_can_be_closed():
    reader, pump = pumping(*[batch_of(1000)] * 100)

    del reader
    pump.close_soon()
    turn()

    assert pump.inside.closed
    assert not pump._carrier


def test_a_pump_that_is_closed_while_it_opens_waits_a_little_and_stops_that(monkeypatch):
    monkeypatch.setattr(pump_file, "_GOODBYE_S", 0.01)
    pump = SubscriptionPump(Line(), weakref.ref(Coroutine()))
    opening = gevent.spawn(pump.open, lambda: gevent.sleep(60), {})
    turn()

    pump.close()
    pump.start()

    assert opening.dead and pump._carrier is None
