"""Messages that wait for their time (``delay_s``, ``at``), and what moves them into the log then.

They are kept in the store (see waiting.py). One append puts a message into the log and takes its
records away, so whatever happens it comes once.

Due is by the calendar clock of the server: where that is set forward, what is due by then goes at
once; where it is set back, it waits for longer. Either way it goes once.
"""

import logging
from functools import partial
from hashlib import blake2b
from os import urandom
from time import monotonic

import gevent
from gevent.event import AsyncResult, Event

from .checks import within
from .clock import now_us
from .errors import (
    DuplicateId,
    InvalidOption,
    LimitExceeded,
    RequestError,
    ServerDraining,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    ZStreamPubError,
)
from .message import Batch
from .store import Append
from .topics import PatternSet
from .waiting import Waiting, bodies, key_of, make_key, places, records_of, tag_of, without

logger = logging.getLogger(__name__)

MOST_LISTED = 10_000

_MOVED = 512            # taken from the store at once
_MOVED_BYTES = 4 << 20
_JOINED_BYTES = 64 << 10
_MOVING = 1 << 15       # under way: a publisher may be held by a subscriber's policy, and others must not wait for it
_LOOK_S = 1.0           # the clock may be set, so it is looked at this often while anything waits
_AGAIN_S = 5.0          # what could not be moved is tried again after this long
_COMPLAIN_S = 60.0      # one log line in this time


class Schedule:
    """What waits in *store*: at most *most*. ``append(append)`` is the broker's, ``failed(error)`` is told of a bug.

    ``count`` is how many wait, with those that are on their way to the disk.
    """

    def __init__(self, store, append, most, failed):
        self.count = 0
        self._store = store
        self._append = append
        self._most = most
        self._failed = failed
        self._waiting = Waiting(store)
        self._leaving = {}          # key -> Event, while it is moved or cancelled
        self._refused = {}          # key -> size of what is tried again later
        self._alone = set()         # keys that must be moved each alone
        self._again_at = self._rest_until = 0.0
        self._complained_at = -_COMPLAIN_S
        self._order = 0
        self._changed = Event()
        self._task = None
        self._stopped = False

    def load(self):
        """Count what waits and look after it from now on (called once, before anything is published); may wait."""
        self.count = self._waiting.count()
        if self.count:
            self._start()

    # --- taking in ---------------------------------------------------------------------------

    def take(self, order, reply):
        """Keep *order* until it is due; ``reply(append)`` when that is on disk. Never waits.

        What it answers is the id for :meth:`cancel`. Raises LimitExceeded, and what the broker's append raises.
        """
        if self.count >= self._most:
            raise LimitExceeded(f"{self.count} messages wait for their time already, and max_scheduled is "
                                f"{self._most}. Publish later, cancel some, or raise max_scheduled.", limit=self._most)
        append = order.append
        batch, = append.batches
        key = self._new_key(order.due_us, append)
        order.answer = key.hex()
        append.batches, append.records = (), records_of(key, batch)
        append.reply = partial(self._taken, order, key, batch.size, reply)
        self._append(append)
        self.count += 1

    def _new_key(self, due_us, append):
        """Return a new key; its tag is the same when a publish is sent again."""
        self._order = max(self._order + 1, now_us())
        if append.producer is None:
            return make_key(due_us, self._order, urandom(8))
        name = append.sequence.to_bytes(8, "big") + append.producer
        return make_key(due_us, self._order, blake2b(name, digest_size=8).digest())

    def _taken(self, order, key, size, reply, append):
        if append.error is None and not append.duplicate:
            self._note(key, size)
            reply(append)
            return
        self.count -= 1
        if append.error is None:
            gevent.spawn(self._answer_again, order, tag_of(key), reply, append)
        else:
            reply(append)

    def _answer_again(self, order, tag, reply, append):
        """Answer a publish that was sent again with the id that it got first, if that still waits."""
        try:
            order.answer = next((place.key.hex() for place in places(self._store) if tag_of(place.key) == tag),
                                order.answer)
        except StoreError as error:
            append.error = error
        reply(append)

    def _note(self, key, size):
        if self._waiting.add(key, size):
            self._changed.set()
        self._start()

    # --- looking and taking back ---------------------------------------------------------------

    def cancel(self, id):
        """Take back what waits under *id*; return whether it did. What was taken back never comes."""
        if not isinstance(id, str):
            raise InvalidOption(f"The id of a scheduled message is text, not {type(id).__name__}.", option="id")
        key = key_of(id)
        if key is None:
            return False
        # In a greenlet of its own: whatever happens to who asked, the count stays right.
        was_there, error = gevent.spawn(self._cancel, key).get()
        if error is not None:
            raise error
        return was_there

    def _cancel(self, key):
        while key in self._leaving:
            self._leaving[key].wait()
        left = self._leaving[key] = Event()
        try:
            body = bodies(self._store, [key]).get(key)
            error = None if body is None else self._remove(key)
        except StoreError as failure:
            body, error = b"", failure
        del self._leaving[key]
        left.set()
        if error is not None:
            self._note(key, len(body))      # who moves may have passed over it meanwhile
        return body is not None and error is None, error

    def _remove(self, key):
        """Take the records of *key* away; return None, or the error for which they are still there."""
        answer = AsyncResult()
        try:
            self._append(Append(reply=answer.set, records=without([key])))
        except ZStreamPubError as refused:
            return refused
        error = answer.get().error
        self.count -= error is None
        return error

    def list(self, topic=None, *, after=None, limit=None):
        """Return what waits as maps ``id``, ``topic``, ``at`` (seconds), ``size``; what is due first comes first.

        *topic* may be a pattern; at most *limit* maps, those after the id *after*.
        """
        limit = within("limit", limit, 1000, 1, MOST_LISTED)
        start = key_of(after) if isinstance(after, str) else None
        if after is not None and start is None:
            raise InvalidOption(f"after is the id of a scheduled message, not {after!r:.60}.", option="after")
        wanted = PatternSet([">" if topic is None else topic])
        found = []
        for place in places(self._store, start):
            if place.topic in wanted:
                found.append(place.as_map())
                if len(found) == limit:
                    break
        return found

    def stats(self):
        """Return counters for the operator."""
        return {"waiting": self.count, "in_memory": len(self._waiting), "moving": len(self._leaving),
                "refused": len(self._refused)}

    # --- moving --------------------------------------------------------------------------------

    def stop(self):
        """Move nothing any more. What waits stays in the store."""
        self._stopped = True
        if self._task is not None:
            self._task.kill(block=False)

    def _start(self):
        if self._task is None and not self._stopped:
            self._task = gevent.spawn(self._run)
            self._task.link_exception(lambda task: self._failed(task.exception))

    def _run(self):
        while True:
            self._changed.clear()
            wait_s = self._rest_until - monotonic()
            if wait_s <= 0:
                try:
                    wait_s = self._turn()
                except StoreError as error:
                    self._rest(error)
                    continue
            if wait_s is None or wait_s > 0:
                self._changed.wait(wait_s)

    def _turn(self):
        """Move some of what is due; return how many seconds to wait then, None for until something changes."""
        if self._refused and monotonic() >= self._again_at:
            refused, self._refused = self._refused, {}
            for key, size in refused.items():
                self._waiting.add(key, size)
        if len(self._leaving) >= _MOVING:
            return None
        if self._waiting.wants_reading:
            self._waiting.read()
        due = self._waiting.take(now_us(), _MOVED, _MOVED_BYTES, self._leaving)
        if due:
            self._move(due)
            return 0
        next_us = self._waiting.next_us
        if next_us is None:
            return _AGAIN_S if self._refused else None
        return max(min((next_us - now_us()) / 1e6, _LOOK_S), 0.001)

    def _move(self, due):
        """Put *due*, ``(key, size)`` of each, into the log; those that must go alone by an append of their own."""
        left = Event()
        self._leaving.update((key, left) for key, _ in due)
        try:
            found = bodies(self._store, [key for key, _ in due])
        except StoreError:
            self._back(due)
            raise
        self._left([key for key, _ in due if key not in found])     # cancelled, or moved before
        together = [one for one in due if one[0] in found and one[0] not in self._alone]
        groups = [[one] for one in due if one[0] in found and one[0] in self._alone]
        for group in [together, *groups] if together else groups:
            try:
                batches = [Batch.parse(found[key]) for key, _ in group]
            except StoreError as error:
                self._moved(group, Append(), error)
            else:
                self._put(group, _joined(batches))

    def _put(self, due, batches):
        append = Append(batches, records=without([key for key, _ in due]))
        append.reply = partial(self._moved, due)
        try:
            self._append(append)
        except ZStreamPubError as error:
            self._moved(due, append, error)

    def _moved(self, due, append, error=None):
        """Learn what became of the move of *due*."""
        error = error or append.error
        if error is None:
            self.count -= len(due)
            self._left([key for key, _ in due])
        elif not isinstance(error, (RequestError, StoreCorrupt)):
            self._back(due)
            self._rest(error)
        elif len(due) > 1:      # it may be the fault of one
            self._alone.update(key for key, _ in due)
            self._back(due)
        elif isinstance(error, DuplicateId):
            self._put(due, _new_of(append.batches[0], error.offsets))
        else:
            (key, size), = due
            self._refuse(key, size, error)
        self._changed.set()

    def _left(self, keys):
        for key in keys:
            self._alone.discard(key)
            self._leaving.pop(key).set()

    def _back(self, due):
        for key, size in due:
            self._leaving.pop(key).set()
            self._waiting.add(key, size)

    def _refuse(self, key, size, error):
        self._leaving.pop(key).set()
        if not self._refused:
            self._again_at = monotonic() + _AGAIN_S
        self._refused[key] = size
        self._complain(f"The scheduled message {key.hex()} is due and is refused", error)
        if len(self._refused) >= _MOVING:
            self._rest(error)

    def _rest(self, error):
        """Try nothing for a while: it is not the fault of what is moved."""
        self._rest_until = monotonic() + _AGAIN_S
        if not self._stopped and not isinstance(error, (ServerDraining, StoreClosed)):
            self._complain("Scheduled messages cannot be moved", error)

    def _complain(self, what, error):
        now = monotonic()
        if now - self._complained_at >= _COMPLAIN_S:
            self._complained_at = now
            logger.warning("%s; it is tried again: %s: %s", what, type(error).__name__, error)


def _joined(batches):
    """Return *batches*, with small ones for one topic that follow each other as one: so the log takes them best."""
    runs, size = [], 0
    for batch in batches:
        if runs and runs[-1][0].topic == batch.topic and size + batch.size <= _JOINED_BYTES:
            runs[-1].append(batch)
            size += batch.size
        else:
            runs.append([batch])
            size = batch.size
    return [Batch.joined(run) if len(run) > 1 else run[0] for run in runs]


def _new_of(batch, offsets):
    """Return, as a list of batches, those messages of *batch* that are not in the log (*offsets*) nor before in it."""
    places, seen = [], set()
    ids = batch.metadata.get("id") or [None] * batch.count      # none, if it is damaged
    for at, (id, offset) in enumerate(zip(ids, offsets)):
        id = id.encode() if isinstance(id, str) else id
        if offset is None and (id is None or id not in seen):
            places.append(at)
            seen.add(id)
    return batch.singles(places)
