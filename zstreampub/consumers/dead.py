"""Dead letters: messages that a consumer gives up, kept as messages of the topic ``$dead.<consumer>``.

A dead letter is appended in the transaction that settles its original, so there is one of them at any time.
"""

import logging

import gevent

from ..errors import ConsumerDeleted, InvalidOption, StoreClosed
from ..message import Batch
from ..store import Append, Gap
from ..topics import PatternSet
from . import journal
from .lease import DYING, pairs, runs_of
from .options import DEAD_TOPIC
from .reading import read_offsets

logger = logging.getLogger(__name__)

REASON, ERROR, DELIVERIES = "dead-reason", "dead-error", "dead-deliveries"
TOPIC, OFFSET, TIME = "dead-topic", "dead-offset", "dead-time"
HEADERS = frozenset((REASON, ERROR, DELIVERIES, TOPIC, OFFSET, TIME))

_AT_ONCE = 500          # messages of one append
_AT_ONCE_BYTES = 1 << 20
_AGAIN_S = 1.0
_COMPLAIN_S = 60.0      # one log line in this time


class DeadLetters:
    """Which messages of the topic are settled: all below ``first``, and those in ``done``. ``count``: not settled."""

    def __init__(self, consumer):
        self.topic = DEAD_TOPIC + consumer
        self.wanted = PatternSet([self.topic])
        self.first = 0
        self.done = set()
        self.count = None       # until it was counted in the log

    def settle(self, runs):
        """Note that *runs* are settled."""
        for first, next in pairs(runs):
            if first <= self.first:
                self.first = max(self.first, next)
            else:
                self.done.update(range(first, next))
        self.done = {offset for offset in self.done if offset >= self.first}

    def measure(self, store):
        """Count them in the log; may wait."""
        next = store.bounds()[1]
        gone = sum(offset < next for offset in self.done)
        self.count = max(0, store.measure(self.wanted, self.first, next).messages - gone)
        return self.count

    def read(self, store, first=None, most=_AT_ONCE, most_bytes=_AT_ONCE_BYTES):
        """Return batches of one of those that are not settled, from *first* on, at most *most*; may wait."""
        cursor, found, size = max(self.first, first or 0), [], 0
        next = store.bounds()[1]
        while cursor < next and len(found) < most and size < most_bytes:
            chunk = store.read(cursor, self.wanted, next, most, most_bytes, store.trim_mark())
            for batch in chunk.batches:
                places = [at for at in range(batch.count) if batch.first + at not in self.done]
                found += batch.singles(places)
                size += batch.size
            if chunk.next <= cursor:
                break
            cursor = chunk.next
        return found[:most]

    def as_map(self):
        return {"first": self.first, "done": runs_of(sorted(self.done))}


class Burial:
    """Messages of a consumer that become dead letters: all that is under *lease*.

    If somebody waits for it (``told(error)``), then it is done or it fails, and ``undo(now)`` takes it back; else
    it is tried until it is done.
    """

    def __init__(self, state, lease, why, error, told=None, undo=None):
        self.state = state
        self.lease = lease
        self.why = why
        self.error = error
        self.told = told
        self.undo = undo


class Undertaker:
    """Buries for one consumer, in a greenlet of its own while there is something to bury."""

    def __init__(self, consumer):
        self._consumer = consumer
        self._burials = []
        self._task = None
        self._silent_until = 0.0

    def bury(self, burial):
        """Take *burial* on; never waits."""
        if burial.lease.kind != DYING:
            burial.state.turn(burial.lease, DYING)
        self._burials.append(burial)
        self.go_on()

    def _run(self):
        try:
            while self._burials:
                self._bury_some()
        except Exception as error:      # whatever it is, whoever waits must hear of it
            self._fail(self._consumer.home.as_ours(error))
        finally:
            self._task = None

    def _fail(self, error):
        """Nothing was stored: take back what somebody waits for, and try the rest again later."""
        consumer = self._consumer
        burials, self._burials = self._burials, []
        for burial in burials:
            if burial.told is None:
                self._burials.append(burial)
                continue
            burial.undo(consumer.home.clock.now())
            self._tell(burial, type(error)(str(error), **error.facts))
        if self._burials and not isinstance(error, StoreClosed):
            now = consumer.home.clock.now()
            if now >= self._silent_until:
                self._silent_until = now + _COMPLAIN_S
                logger.warning("consumer %s: dead letters cannot be stored now: %s", consumer.name, error)
            consumer.bury_at = now + _AGAIN_S
            consumer.home.watch_time(consumer, consumer.bury_at)

    def go_on(self):
        """Try again what could not be stored; never waits."""
        if self._burials and self._task is None:
            self._task = gevent.spawn(self._run)

    def _done(self, burial, error=None):
        self._burials.remove(burial)
        self._tell(burial, error)

    def _tell(self, burial, error):
        if burial.told is not None:
            try:
                burial.told(error)
            except Exception as bug:        # the caller's own callback must not keep others from being buried
                self._consumer.home.report(bug)

    def _bury_some(self):
        consumer = self._consumer
        state, home = consumer.state, consumer.home
        chosen = self._choose(state)
        offsets = sorted(chosen)
        if not offsets:
            return
        home.wait_until_written(consumer)   # or a hand-out that fails after this would be written again behind it
        batches, next = read_offsets(home.store, consumer.wanted, offsets, _AT_ONCE_BYTES)
        pending = state.pending
        offsets = [offset for offset in offsets if offset < next and pending.get(offset) is chosen[offset].lease]
        if consumer.state is not state or not offsets:
            return      # all of it was dropped
        letters = self._letters(chosen, batches, set(offsets))
        rejected = runs_of(offset for offset in offsets if chosen[offset].told is not None)
        given_up = runs_of(offset for offset in offsets if chosen[offset].told is None)
        packed = journal.pack_change(home.token, [[state.id, 0, 0, state.acked, state.redelivered,
                                                   journal.settled(rejected), journal.gone(given_up)]])
        home.append_and_wait(consumer, Append([self._batch(letters)] if letters else [], changes=[packed]),
                             lambda: self._buried(state, chosen, offsets))
        missing = set(offsets).difference(letters)
        for first, next in pairs(runs_of(sorted(missing))):
            consumer.tell_gap(Gap(first, next, next - first, "retention"))      # nobody has told of it yet
        if consumer.state is state and letters:
            home.died(consumer, len(letters))

    def _choose(self, state):
        """Return ``{offset: burial}`` of some that are still to be buried."""
        chosen: dict = {}
        for burial in tuple(self._burials):
            if burial.state is not state:
                self._done(burial, ConsumerDeleted("The consumer was moved or deleted meanwhile."))
                continue
            for offset in burial.lease.offsets(state.pending):
                chosen[offset] = burial
                if len(chosen) >= _AT_ONCE:
                    return chosen
            if not burial.lease.left:
                self._done(burial)
        return chosen

    def _buried(self, state, chosen, offsets):
        consumer = self._consumer
        for offset in offsets:
            burial, run = chosen[offset], [offset, offset + 1]
            state.remove(burial.lease, run)
            if burial.told is not None:
                state.remember(run, burial.lease.token)     # who rejects it twice hears that it is done
        if consumer.state is state:
            consumer.settled(runs_of(offsets))
        consumer.dirty = True
        for burial in tuple(self._burials):
            if not burial.lease.left:
                self._done(burial)
        consumer.home.touch(consumer)

    def _batch(self, letters):
        raws, keys, headers = zip(*letters.values())
        metadata = {"headers": list(headers)}
        if any(key is not None for key in keys):
            metadata["key"] = list(keys)
        return Batch.assemble(self._consumer.dead.topic, list(raws), metadata)

    def _letters(self, chosen, batches, offsets):
        """Return ``{offset: (payload, key, headers)}`` of those of *offsets* that are in *batches*."""
        letters, instead = {}, self._consumer.instead
        for batch in batches:
            raws, columns = batch.raw_payloads, batch.metadata
            keys, headers = (columns.get(name) or [None] * batch.count for name in ("key", "headers"))
            for offset, raw, key, said in zip(range(batch.first, batch.next), raws, keys, headers):
                if offset in offsets:
                    burial = chosen[offset]
                    letters[offset] = instead.get(offset, raw), key, {
                        **(said or {}), REASON: burial.why, ERROR: burial.error, DELIVERIES: burial.lease.delivery,
                        TOPIC: batch.topic, OFFSET: offset, TIME: batch.time}
        return letters


def revived(batch, topic):
    """Return the dead letter *batch* (one message) as a message of *topic*, or of where it came from.

    Raises InvalidOption if it cannot go there: a dead letter that a consumer of dead letters gave up.
    """
    columns = batch.metadata
    headers = (columns.get("headers") or [None])[0] or {}
    topic = topic or headers.get(TOPIC, DEAD_TOPIC)
    if topic.startswith(DEAD_TOPIC):
        raise InvalidOption(f"The dead letter at {batch.first} was one before, and nobody publishes to {topic}. Say by "
                            "topic where it is to go.", option="topic")
    metadata = {"headers": [{name: value for name, value in headers.items() if name not in HEADERS} or None]}
    if columns.get("key"):
        metadata["key"] = columns["key"]
    if metadata["headers"] == [None]:
        del metadata["headers"]
    return Batch.assemble(topic, batch.raw_payloads, metadata)

