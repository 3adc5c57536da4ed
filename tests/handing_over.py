"""A hand-over into a store without a receiver: a loop that says its verdicts at once, and what comes."""

from types import SimpleNamespace

from zstreampub.message import Message
from zstreampub.receive.handover import HandOver
from zstreampub.receive.memory import memory_of
from zstreampub.receive.verdicts import Judge


class Said:
    """The future of what was said."""

    def __init__(self):
        self.is_there = False
        self.asked = 0

    def ready(self):
        return self.is_there

    successful = ready

    def get(self, timeout=None):
        self.asked += 1
        self.is_there = True


class Delivered(Message):
    """A message that can be acknowledged."""

    __slots__ = ("said",)

    def __init__(self, offset):
        super().__init__("a.b", offset, 1.0, offset)
        self.said = None

    def ack(self):
        self.said = self.said or Said()
        return self.said


class Loop:
    """A loop that notes its verdicts, and never waits."""

    def __init__(self, *verdicts, epoch="e", floor=0):
        self.asked = []
        self.gaps = []
        self._verdicts = list(verdicts)
        self.judge = Judge(self._say)
        self.feed = SimpleNamespace(place=(0, epoch), floor=lambda: floor)
        self.is_stopping = False
        self.on_second_try = None

    def _say(self, error, message):
        self.asked.append((type(error), message.offset))
        return self._verdicts.pop(0)

    def pause(self, backoff):
        assert backoff.pause_s() > 0
        if len(self.asked) == 2:
            self.on_second_try()


def message(offset, payload=None):
    return Message("a.b", offset, 1.0, offset if payload is None else payload)


def offsets(store):
    return [one.offset for one in store]


def begun(store, mark, loop, filter=None, name="r"):
    """Return a HandOver into *store* that has begun, and the place where it goes on."""
    sink = HandOver(store, mark, memory_of(filter, store, name), filter, loop)
    place = sink.place()
    sink.opened()
    return sink, place
