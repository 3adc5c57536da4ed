"""Sends what an outbox keeps to the server: in order, each message once, one request at a time.

Before a request is sent for the first time, the disk has its name and which items it has. So whatever dies, the same
request is sent until it is answered, and the server stores it once. The answer removes the items and names the next
request, in one commit.
"""

import logging
from functools import partial
from itertools import groupby, islice
from time import monotonic

import gevent
from gevent.event import Event

from ... import errors
from ...errors import BatchTooLarge, InternalError, SequenceTooOld, StoreCorrupt, ZStreamPubError
from ..calls import Call
from ..entries import BATCH_OVERHEAD, MAX_BATCHES, join
from ..timing import Backoff
from .records import SENT, Record
from .writes import passed_on_interruptions, surely

MOST_PAUSE_S = 5.0      # between two tries of what the server, or our disk, cannot take now
STOP_S = 5.0            # that what is being written may take when the outbox is closed

# Refusals that are about a message: it is refused for good. All else may be otherwise a little later.
FINAL = (errors.InvalidTopic, errors.InvalidPayload, errors.InvalidBatch, errors.MessageTooLarge, BatchTooLarge,
         errors.LimitExceeded, errors.DuplicateId, errors.NextMismatch, errors.AccessError, SequenceTooOld)

logger = logging.getLogger(__name__)


class Sender:
    """Empties *store* from the front, in a greenlet of its own; *sent* is the mark.

    ``on_outcome(count, firsts, error)`` is called with each record and its offset, or why it was refused, once it is
    removed; before that, ``keep_refused(record, error, name)``, which may raise a StoreError.
    """

    def __init__(self, store, sent, channels, publisher, keep_refused, on_outcome):
        self.sent = sent
        self.last_error = None
        self.is_under_way = False
        self._store = store
        self._channels = channels
        self._publisher = publisher
        self._keep_refused = keep_refused
        self._on_outcome = on_outcome
        self._under_way: list = []      # records of the request that the mark names
        self._reader = self._ahead = None
        self._most = None               # records in a request, while it is found out which one was refused
        self._left = 0                  # of those that were refused together
        self._backoff = Backoff(0.05, MOST_PAUSE_S)
        self._awake = Event()
        self._closed = False
        self._greenlet = gevent.spawn(self._run)

    def wake(self):
        """There is something to send, or somebody to send it to."""
        self._awake.set()

    def close(self):
        """Stop; what was not answered stays in the store, and is sent by whoever opens it next."""
        self._closed = True
        self._awake.set()
        self._greenlet.join(STOP_S)
        self._greenlet.kill()

    # --- the loop ------------------------------------------------------------------------

    def _run(self):
        while not self._closed:
            with passed_on_interruptions():
                self._try()

    def _try(self):
        self._awake.clear()
        try:
            if self._publisher.limits is None or not self._prepare():
                self.is_under_way = False
                self._awake.wait()
            elif self._under_way:
                self.is_under_way = True
                self._send()
        except ZStreamPubError as error:
            self._note(error)
        except Exception as error:      # our bug; but the next message is not to wait for ever in silence
            logger.exception("the outbox %s cannot go on", self._store.path)
            self._note(error)

    def _note(self, error):
        """Take note of what failed, and wait before it is tried again."""
        self.is_under_way = False
        self._forget_reader()
        if self._closed or not self._channels.is_open:
            self._awake.wait()
            return
        if str(error) != str(self.last_error):
            logger.warning("The outbox %s waits: %s", self._store.path, error)
        self.last_error = error
        ends = monotonic() + self._backoff.pause_s()
        while not self._closed and monotonic() < ends:
            self._awake.wait(ends - monotonic())
            self._awake.clear()

    def _prepare(self):
        """Have a request under way; tell whether there is anything to send."""
        if not self._under_way and self.sent.calls:     # of who had the outbox open before
            self._under_way = self._readable(self.sent.calls)
        if not self._under_way:
            try:
                records = self._take()
            except StoreCorrupt as error:
                self._drop_damaged(error)
                return True
            if not records:
                return False
            sent = self._next(records)
            self._keep(sent)
            self.sent, self._under_way = sent, records
        return True

    def _send(self):
        records = self._under_way
        try:
            firsts = self._ask(records)
        except FINAL as error:
            if len(records) > 1 and not isinstance(error, SequenceTooOld):
                self._split(records)
                return
            for at, record in enumerate(records):
                self._keep_refused(record, error, [self.sent.producer, self.sent.sequence, at])
            self._remove(records, None, error)
        else:
            self._remove(records, firsts, None)

    # --- requests --------------------------------------------------------------------------

    def _ask(self, records):
        """Send *records* until there is an answer; return their offsets, or None where nobody knows them."""
        limits = self._publisher.limits
        for record in records:
            limits.check(record)
        if len(records) > 1 and sum(record.size for record in records) > limits.max_batch_bytes:
            # The server has other limits by now. Should it have stored this before, it will have it twice; but
            # as it stands it would cut the connection, again and again.
            raise BatchTooLarge("The request does not fit the server's max_batch_bytes any more.")
        batches = self._batches(records, limits)
        call = AppendRequest(self._channels, self._publisher, batches, self.sent)
        self._channels.open(call)
        try:
            firsts = call.future.get()
        finally:
            self._channels.forget(call)
        if type(firsts) is not list or not all(type(one) is int for one in firsts):
            raise InternalError("The answer to 'append' is not one offset for each batch.")
        return firsts if len(firsts) == len(batches) else None      # it was split by other limits then

    def _batches(self, records, limits):
        """Return packed batches; what has ids goes alone, for a batch of which some are repeats is refused."""
        batches: list = []
        now_us = self._publisher.server_us()
        alone = iter(range(1, len(records) + 1))
        for _, group in groupby(records, lambda record: record.has_ids and next(alone)):
            run = list(group)
            for record in run:
                record.age()
            part = join(run, limits, now_us)
            for record in run:
                batch, start, last, stop = record.place
                record.place = (batch + len(batches), start, last + len(batches), stop)
            batches += part
        return batches

    def _remove(self, records, firsts, error):
        """They have their outcome: remove them, and name the next request."""
        self.last_error = None
        self._backoff.reset()
        self._left = max(self._left - len(records), 0)
        self._most = min(2 * self._most, self._left) if self._most and self._left else None
        following = self._take()
        gone = self.sent._replace(messages=self.sent.messages + sum(record.count for record in records))
        sent = self._next(following, gone) if following else gone._replace(calls=0)
        self._keep(sent, len(records))
        self.sent, self._under_way = sent, following
        for record in records:
            self._on_outcome(record, None if firsts is None else _outcome(record, firsts), error)

    def _split(self, records):
        """One of *records* was refused, so none was stored: send fewer at a time, under other names."""
        if not self._left:
            self._left = len(records)
        self._most = len(records) // 2
        some = records[:self._most]
        sent = self._next(some)
        self._keep(sent)
        self._forget_reader()
        self.sent, self._under_way = sent, some

    def _keep(self, sent, count=0):
        """Have *sent* on disk, and the first *count* items removed, in one commit."""
        surely(self._store, partial(self._store.pop_many, count) if count else partial(self._store.add_many, ()),
               (SENT, list(sent)))

    def _next(self, records, sent=None):
        sent = self.sent if sent is None else sent
        return sent._replace(sequence=self.sent.sequence + 1, calls=len(records))

    # --- reading ---------------------------------------------------------------------------

    def _take(self):
        """Return the records of the next request: those behind what is under way."""
        limits = self._publisher.limits
        taken: list = []
        size = batches = 0
        topic = None
        while len(taken) != self._most and (record := self._peek(taken)) is not None:
            size += record.size
            if record.topic != topic or record.many or record.has_ids:
                topic = record.topic
                size += BATCH_OVERHEAD
                batches += 1 + record.count // limits.max_batch_messages
            if taken and (size > limits.frame_bytes or batches > MAX_BATCHES):
                break
            taken.append(record)
            self._ahead = None
        return taken

    def _peek(self, taken):
        """Return the next record, which stays the next one; None at the end, or ahead of a damaged one."""
        if self._ahead is None:
            if self._reader is None:
                self._reader = islice(self._records(), len(self._under_way) + len(taken), None)
            try:
                self._ahead = next(self._reader, None)
            except StoreCorrupt:
                self._reader = None
                if not taken and not self._under_way:
                    raise
            if self._ahead is None:
                self._reader = None     # who has come to the end sees nothing that comes later
        return self._ahead

    def _readable(self, count):
        """Return the first *count* records, or those before the first that is damaged."""
        records: list = []
        try:
            records.extend(islice(self._records(), count))
        except StoreCorrupt:
            logger.exception("the outbox %s is damaged", self._store.path)
        return records

    def _drop_damaged(self, error):
        """The first item cannot be read, by nobody."""
        if "position" not in error.facts:
            raise error
        logger.error("The outbox %s is damaged, what one publish brought is lost: %s", self._store.path, error)
        sent = self.sent._replace(calls=0, messages=self.sent.messages + 1)
        self._keep(sent, 1)
        self.sent = sent
        self._on_outcome(None, None, error)

    def _records(self):
        return map(Record, self._store)

    def _forget_reader(self):
        self._reader = self._ahead = None


class AppendRequest(Call):
    """An ``append`` request of packed *batches*, by the name in the mark *sent*."""

    def __init__(self, channels, publisher, batches, sent):
        super().__init__(channels, "append", None, None, retry=True)
        self._batches = batches
        self._size = sum(map(len, batches))
        self._options = {"producer": sent.producer, "sequence": sent.sequence}
        self._publisher = publisher

    def _frame(self):
        # Packed anew when it is sent again: perhaps to another server.
        return self._publisher.frame(self.id, self._batches, self._size, self._options)


def _outcome(record, firsts):
    batch, start, last, stop = record.place
    first = firsts[batch] + start
    return (first, firsts[last] + stop) if record.many else first
