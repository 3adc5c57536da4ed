"""The loads: each publishes to topics of its own, measures one thing, and checks that every message arrived.

Everything is done by this process, with the client as programs use it: what it costs to make, send, receive and
decode a message in Python is part of the figures. Each subscriber has a connection of its own.
"""

from contextlib import ExitStack, closing
from time import perf_counter
from typing import NamedTuple
from uuid import uuid4

import gevent
from gevent.pool import Group
from gevent.socket import wait_read

from ...errors import RequestTimeout
from .delays import Delays
from .ledger import Ledger, payloads
from .pace import Beat

_LOOK_S = 0.005


class Plan(NamedTuple):
    """How much of everything: the flags of the command."""

    messages: int
    seconds: float
    size: int
    batch: int
    in_flight: int
    subscribers: int
    rate: float
    timeout_s: float


class Result(NamedTuple):
    """What a load has found: ``number`` messages or deliveries (``what``) in ``seconds``; ``delays`` may be None."""

    load: str
    what: str
    number: int
    seconds: float
    delays: Delays
    faults: list

    @property
    def rate(self):
        return self.number / self.seconds if self.seconds else 0.0


class Bench:
    """One run against the server that ``connect()`` gives clients of. ``tick(done, of)`` is called as it goes on."""

    def __init__(self, connect, plan, tick):
        self.prefix = f"bench.{uuid4().hex[:8]}"
        self.consumer = self.prefix.replace(".", "-")
        self._connect = connect
        self._plan = plan
        self._tick = tick
        self._stored: dict = {}     # topic -> messages

    def publish(self):
        """Publish batches, several in flight; then read them back to see that each is stored, once and in order."""
        topic, delays = f"{self.prefix}.publish", Delays()
        with closing(self._connect()) as client:
            began = perf_counter()
            count = self._publish(client, topic, delays)
            seconds = perf_counter() - began
            ledger = self._read_back(client, topic)
        return Result("publish", "messages", count, seconds, delays, ledger.close(count))

    def fan_out(self):
        """The same while subscribers read it."""
        topic = f"{self.prefix}.fan-out"
        with ExitStack() as stack:
            client, ledgers = self._subscribed(stack, topic)
            began = perf_counter()
            count = self._publish(client, topic)
            self._wait_for(ledgers, count)
        return self._delivered("fan-out", began, ledgers, count, None)

    def latency(self):
        """Publish at a steady rate; a delay begins when a message was due, so a server that falls behind shows it."""
        topic, delays = f"{self.prefix}.latency", Delays()
        count = max(min(int(self._plan.rate * self._plan.seconds), self._plan.messages), 1)
        with ExitStack() as stack:
            client, ledgers = self._subscribed(stack, topic, delays)
            began = self._publish_steadily(client, topic, count)
            self._wait_for(ledgers, count)
        return self._delivered("latency", began, ledgers, count, delays)

    def replay(self):
        """A new subscriber reads what is stored, from its beginning."""
        topic = f"{self.prefix}.publish"
        with closing(self._connect()) as client:
            if topic not in self._stored:
                self._publish(client, topic)
            count = self._stored[topic]
            began = perf_counter()
            ledger = self._read_back(client, topic)
        return Result("replay", "messages", count, ledger.ended - began, None, ledger.close(count))

    def consume(self):
        """A member of a durable consumer takes and acknowledges all, until the last acknowledgement is on disk."""
        topic, ledger = f"{self.prefix}.consume", Ledger()
        with closing(self._connect()) as client:
            client.create_consumer(self.consumer, topic)
            try:
                count = self._publish(client, topic)
                began = perf_counter()
                with client.consume(None, self.consumer, on_gap=ledger.gap) as deliveries:
                    self._acknowledge(deliveries, ledger, count)
                seconds = perf_counter() - began
            finally:
                client.delete_consumer(self.consumer)
        return Result("consume", "messages", count, seconds, None, ledger.close(count))

    def _acknowledge(self, deliveries, ledger, count):
        answer = None
        while ledger.messages < count:
            try:
                delivery = deliveries.get(self._plan.timeout_s)
            except RequestTimeout:
                break       # the ledger says what is missing
            ledger.take((delivery.payload,))
            answer = delivery.ack()
            if ledger.messages % self._plan.batch == 0:
                self._tick(ledger.messages, count)
        if answer is not None:
            answer.get()

    # --- publishing ------------------------------------------------------------------------

    def _publish(self, client, topic, delays=None):
        """Publish until the messages or the seconds are used up; return how many there were."""
        plan, ends = self._plan, perf_counter() + self._plan.seconds
        self._stored[topic] = begun = 0

        def caller(number):
            nonlocal begun
            own = 0
            while begun < plan.messages and perf_counter() < ends:
                count = min(plan.batch, plan.messages - begun)
                begun += count
                batch = payloads(number, own, count, plan.size)
                own += count
                start = perf_counter()
                if plan.batch == 1:
                    client.publish(topic, batch[0])
                else:
                    client.publish_many(topic, batch)
                if delays is not None:
                    delays.add(perf_counter() - start)
                self._stored[topic] += count
                self._tick(self._stored[topic], plan.messages)

        callers = [gevent.spawn(caller, number) for number in range(plan.in_flight)]
        try:
            gevent.joinall(callers, raise_error=True)
        finally:
            gevent.killall(callers)
        return self._stored[topic]

    def _publish_steadily(self, client, topic, count):
        """Publish each message when it is due, in a greenlet of its own; return when that began."""
        beat, calls, number = Beat(self._plan.rate, count), Group(), 0
        began = beat.start()
        try:
            while number < count:
                wait_read(beat.fileno())
                beat.take()
                while number < beat.taken:
                    payload, = payloads(0, number, 1, self._plan.size, beat.due(number))
                    calls.spawn(client.publish, topic, payload)
                    number += 1
                self._tick(number, count)
            calls.join(raise_error=True)
        finally:
            beat.stop()
            calls.kill()
        return began

    # --- reading ---------------------------------------------------------------------------

    def _subscribed(self, stack, topic, delays=None):
        """Return a client, and the ledgers of subscribers that read *topic* from now on, until *stack* is left."""
        client = stack.enter_context(closing(self._connect()))
        ledgers = [Ledger(delays) for _ in range(self._plan.subscribers)]
        for ledger in ledgers:
            theirs = stack.enter_context(closing(self._connect()))
            subscription = theirs.subscribe(topic, on_gap=ledger.gap)
            reader = gevent.spawn(_read, subscription, ledger)
            stack.callback(reader.kill)
        return client, ledgers

    def _wait_for(self, ledgers, count):
        """Wait until all *ledgers* have *count* messages, or none has got any for the timeout."""
        came, since = 0, perf_counter()
        while any(ledger.messages < count for ledger in ledgers):
            gevent.sleep(_LOOK_S)
            now = sum(ledger.messages for ledger in ledgers)
            if now > came:
                came, since = now, perf_counter()
                self._tick(now, count * len(ledgers))
            elif perf_counter() - since > self._plan.timeout_s:
                return

    def _delivered(self, load, began, ledgers, count, delays):
        faults = [fault for ledger in ledgers for fault in ledger.close(count)]
        seconds = max(max(ledger.ended for ledger in ledgers) - began, 0.0)
        return Result(load, "deliveries", sum(ledger.messages for ledger in ledgers), seconds, delays, faults)

    def _read_back(self, client, topic):
        """Return the ledger of all that is stored under *topic*."""
        ledger = Ledger()
        with closing(client.subscribe(topic, start="earliest", until="end", on_gap=ledger.gap)) as stream:
            for batch in stream.batches():
                ledger.take(batch.payloads)
                self._tick(ledger.messages, self._stored[topic])
        return ledger


def _read(subscription, ledger):
    for batch in subscription.batches():
        ledger.take(batch.payloads)


LOADS = {"publish": Bench.publish, "fan-out": Bench.fan_out, "replay": Bench.replay, "consume": Bench.consume,
         "latency": Bench.latency}
