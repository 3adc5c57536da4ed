"""Members that hold much, and consumers that are many: what the actors of the workload ``pending`` do."""

import random
from collections import deque

import gevent
from gevent.event import Event

import zstreampub

from .actors import timed
from .lean import LeanClient, LeanMember
from .payloads import BATCH, cycle

CONSUMER = "holder"
TOPIC = "bench.pending"
_MEMBERS = 10
_CALLS = 4              # that wait for their answers
_CALLS_OF_ONE = 64
_CONNECTIONS = 4
_LATE_S = 60
_FOREVER_S = 100_000


def fill(endpoint, messages):
    """Publish *messages*."""
    with zstreampub.Client(endpoint) as client:
        _publish(client, TOPIC, messages)


def fill_many(endpoint, topics, messages):
    """Publish *messages* to each of so many *topics*."""
    with zstreampub.Client(endpoint) as client:
        for number in range(topics):
            _publish(client, _topic(number), messages)


def _publish(client, topic, messages):
    for first in range(0, messages, BATCH):
        client.publish_many(topic, cycle(0)[:min(BATCH, messages - first)])


def _name(number):
    return f"{CONSUMER}{number}"


def _topic(number):
    return f"{TOPIC}.{number}"


class Hoard:
    """What the members of one process have been given and not settled, a ``(first, next, token)`` for each batch."""

    def __init__(self, client):
        self.client = client
        self.messages = 0
        self.runs = deque()
        self.more = Event()

    def join(self, consumer, in_flight):
        """Have a member of *consumer* add what it is given; return it."""
        return LeanMember(self.client, consumer, self._take, max_in_flight=in_flight)

    def _take(self, batch, token):
        self.messages += batch.count
        self.runs.append((batch.first, batch.next, token))
        self.more.set()

    def wait(self, messages):
        """Wait until *messages* are held in all."""
        _until(lambda: self.messages >= messages, self.more)
        if self.messages > messages:
            raise RuntimeError(f"{self.messages} messages came, of which {messages} may be pending")

    def take_range(self):
        """Return the entries of an ack of BATCH messages (or as many as came together), and their number."""
        first, next, token = self.runs.popleft()
        if next - first > BATCH:
            self.runs.appendleft((first + BATCH, next, token))
            next = first + BATCH
        self.messages -= next - first
        return [[first, next, token]], next - first

    def scatter(self):
        """Forget what came together: each message is a run of its own from now on, in any order."""
        singles = [(offset, offset + 1, token) for first, next, token in self.runs for offset in range(first, next)]
        random.Random(1).shuffle(singles)
        self.runs = deque(singles)

    def take_offsets(self):
        """Return the entries of an ack of BATCH messages, each named by itself, and their number."""
        taken = []
        while self.runs and len(taken) < BATCH:
            first, next, token = self.runs.popleft()
            if next - first == 1:
                taken.append([first, token])
            else:       # came while others were acknowledged
                self.runs.extend((offset, offset + 1, token) for offset in range(first, next))
        self.messages -= len(taken)
        return taken, len(taken)

    def take_one(self):
        """Return the entry of the message that has waited longest, and 1."""
        first, next, token = self.runs.popleft()
        if next - first > 1:
            self.runs.appendleft((first + 1, next, token))
        self.messages -= 1
        return [[first, token]], 1


def acknowledge(link, endpoint, pending, messages, how):
    """Hold *pending* messages, acknowledge *messages* of them and of those that come instead, a thousand in a call.

    *how* they are named: by ``ranges`` as they came, or by ``offsets`` from anywhere.
    """
    hoard = _hold(endpoint, pending)
    take = hoard.take_range
    if how == "offsets":
        hoard.scatter()
        take = hoard.take_offsets
    return _settle(link, hoard, messages, take, "ack", {}, _CALLS)


def acknowledge_every_second(link, endpoint, pending):
    """Hold *pending* messages and acknowledge those at even offsets: what is left has no neighbours."""
    hoard = _hold(endpoint, pending)
    hoard.scatter()
    hoard.runs = deque(run for run in hoard.runs if run[0] % 2 == 0)
    return _settle(link, hoard, len(hoard.runs), hoard.take_offsets, "ack", {}, _CALLS)


def give_back(link, endpoint, pending):
    """Hold *pending* messages and give each back by a call of its own, for later."""
    hoard = _hold(endpoint, pending)
    return _settle(link, hoard, pending, hoard.take_one, "nack", {"delay_s": _FOREVER_S}, _CALLS_OF_ONE)


def _hold(endpoint, pending):
    hoard = Hoard(LeanClient(endpoint))
    _create(hoard.client, CONSUMER, TOPIC, max_pending=pending)
    for _ in range(_MEMBERS):
        hoard.join(CONSUMER, pending // _MEMBERS).greeting.get(timeout=_LATE_S)
    hoard.wait(pending // _MEMBERS * _MEMBERS)
    return hoard


def _create(client, name, topic, **settings):
    client.call("create_consumer", name, topic, {"start": "earliest", "ack_wait_s": _FOREVER_S, **settings})


def _settle(link, hoard, messages, take, verb, options, callers):
    """Say *verb* of at least *messages*, *callers* at a time; the result says of how many."""
    left = messages

    def there_is_some():
        return hoard.runs or left <= 0

    def caller(_):
        nonlocal left
        while left > 0:
            _until(there_is_some, hoard.more)
            if left > 0:
                entries, count = take()
                left -= count
                settled = hoard.client.call(verb, CONSUMER, entries, options)
                if settled != count:
                    raise RuntimeError(f"{verb} settled {settled} of {count}")
        hoard.more.set()        # others may wait for what is not needed any more

    link.ready()
    link.go()
    return {**timed(caller, callers), "messages": messages - left}


def acknowledge_in_turn(link, endpoint, consumers, held, messages):
    """A member for each of *consumers*, which holds *held*; acknowledge *messages* of each, one here and one there."""
    clients = [LeanClient(endpoint) for _ in range(_CONNECTIONS)]
    for number in range(consumers):
        _create(clients[0], _name(number), _topic(number))
    hoards = [Hoard(clients[number % _CONNECTIONS]) for number in range(consumers)]
    members = [hoard.join(_name(number), held) for number, hoard in enumerate(hoards)]
    for member, hoard in zip(members, hoards):
        member.greeting.get(timeout=_LATE_S)
        hoard.wait(held)
    turns = iter([number for _ in range(messages) for number in range(consumers)])

    def caller(_):
        for number in turns:
            entries, _ = hoards[number].take_one()
            if hoards[number].client.call("ack", _name(number), entries) != 1:
                raise RuntimeError(f"the ack of {entries} did not count")

    link.ready()
    link.go()
    times = timed(caller, _CALLS_OF_ONE)
    for member in members:
        if member.ended.ready():
            raise RuntimeError(f"a member ended: {member.ended.get()}")
    return {**times, "messages": consumers * messages}


def _until(condition, changed):
    with gevent.Timeout(_LATE_S):
        while not condition():
            changed.clear()
            changed.wait()
