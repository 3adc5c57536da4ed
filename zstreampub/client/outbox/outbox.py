"""Outbox: what a client publishes is on its own disk first, and goes to the server whenever that can be reached.

Whoever publishes waits for the local disk only; all that wait are written in one commit. The sender (sender.py)
is the only one who removes.
"""

import logging
import os
from collections import deque
from functools import partial
from time import monotonic
from weakref import WeakValueDictionary

import gevent
from gevent.event import Event

from ...checks import within
from ...errors import (
    BatchTooLarge,
    ConnectionLost,
    InvalidOption,
    RequestTimeout,
    SpoolFull,
    ZStreamPubError,
)
from ...spool.fifo import FifoStore
from ...spool.items import MAX_MESSAGE_BYTES
from ..futures import Sending
from ..publisher import again
from .left import REFUSED, age_s, open_store
from .records import ADDED, Record, Refused, pack_item, pack_refused
from .sender import Sender
from .writes import passed_on_interruptions, surely

MAX_BYTES = 1 << 30
MAX_MESSAGES = 1_000_000
GROUP_BYTES = 4 << 20       # written in one commit, unless one call brings more
_ITEM_OVERHEAD = 64         # of an item, at the most; and what the store adds
_LAST = "last"              # mark of the refused: which was added last

logger = logging.getLogger(__name__)


class Outbox:
    """What is kept in the directory *path* and not sent yet: ``Client.outbox``.

    Bounded by *max_messages* and *max_bytes* (as kept); beyond that *when_full* is ``"refuse"`` (SpoolFull) or
    ``"block"``: publishing waits for room. Raises StoreLocked while another client has it open, StoreVersion if
    something else is kept there.
    """

    def __init__(self, path, channels, publisher, max_messages=None, max_bytes=None, when_full="refuse"):
        if when_full not in ("refuse", "block"):
            raise InvalidOption(f"outbox_when_full is 'refuse' or 'block', not {when_full!r:.40}.",
                                option="outbox_when_full")
        self.max_messages = within("outbox_max_messages", max_messages, MAX_MESSAGES, 1, 1 << 50)
        self.max_bytes = within("outbox_max_bytes", max_bytes, MAX_BYTES, 1 << 10, 1 << 45)
        self._blocks = when_full == "block"
        self._channels = channels
        self._publisher = publisher
        self.on_outcome = _ignore       # called with each Record that is gone, None if damaged; and why it was refused
        self._store, sent = open_store(path)
        try:
            self._refused = self._open_refused() if os.path.isdir(self._refused_path) else None
        except BaseException:
            self._store.close()
            raise
        self._added = (self._store.mark(ADDED) or 0) if len(self._store) else sent.messages
        self._first, self._next = 0, len(self._store)   # positions, counted from what was there when it was opened
        self._sending = WeakValueDictionary()           # position -> Sending
        self._linked: set = set()
        self._waiting = deque()         # entries that are not on disk
        self._writing: list = []        # those that are being written
        self._written: deque = deque()  # those that are, and not told yet
        self._some, self._moved = Event(), Event()
        self._closed = False
        self._sender = Sender(self._store, sent, channels, publisher, self._keep_refused, self._take_outcome)
        publisher.on_limits = self._sender.wake
        self._intake = gevent.spawn(self._take_in)

    # --- looking -------------------------------------------------------------------------

    @property
    def path(self):
        return self._store.path

    @property
    def messages(self):
        """How many messages are kept, that is, on disk here and not known to be on the server's."""
        return self._added - self._sender.sent.messages

    @property
    def size_bytes(self):
        """Their size, as kept."""
        return self._store.size_bytes

    @property
    def age_s(self):
        """How long ago the oldest of them was published, in seconds of the time of day; 0.0 if there is none."""
        return age_s(self._store)

    @property
    def is_sending(self):
        """Whether a request is under way, on a connection."""
        return self._sender.is_under_way and self._channels.is_up

    @property
    def last_error(self):
        """Why the last try to send failed, None if it did not; a server that is away is no failure."""
        return self._sender.last_error

    @property
    def refused_count(self):
        """How many publish calls the server has refused for good; see :meth:`refused`."""
        return 0 if self._refused is None else len(self._refused)

    def refused(self):
        """Yield a :class:`Refused` for each, the oldest first. They stay, until :meth:`clear_refused`."""
        for packed in () if self._refused is None else self._refused:
            yield Refused(packed)

    def clear_refused(self):
        """Forget what was refused; return how many."""
        return 0 if self._refused is None else self._refused.clear()

    def wait_until_sent(self, timeout_s=None):
        """Wait until all that was published before is on the server's disk, or refused.

        Raises RequestTimeout after *timeout_s*, ConnectionLost if the client is closed meanwhile; all is kept then.
        """
        self._channels.check_owner()
        ends = None if timeout_s is None else monotonic() + timeout_s
        coming = deque([*self._writing, *self._waiting])    # it may be refused here
        until = self._next
        while coming or self._first < until:
            self._check_open()
            self._moved.clear()
            in_time = self._moved.wait(None if ends is None else max(ends - monotonic(), 0))
            while coming and coming[0].ready():
                coming.popleft()
                until = self._next
            if not in_time and (coming or self._first < until):
                why = f" The last error: {self.last_error}" if self.last_error else ""
                raise RequestTimeout(f"After {timeout_s} s {self.messages} messages are still in the outbox "
                                     f"{self.path}.{why}", timeout_s=timeout_s)

    def __repr__(self):
        return f"<Outbox {self.path} {self.messages} messages>"

    # --- taking in -----------------------------------------------------------------------

    def keep(self, entry, timeout_s):
        """Have *entry* on disk; return the Sending of it.

        Raises SpoolFull if there is no room (within *timeout_s* if it waits), and other StoreErrors of the disk.
        """
        self.check(entry)
        self.submit((entry,), timeout_s)
        try:
            entry.wait(timeout_s)
        except BaseException:
            self._withdraw(entry, ConnectionLost("Nobody waits for it any more."))
            raise
        if not entry.ready():
            self._withdraw(entry, SpoolFull(f"The outbox had no room within {timeout_s} s. {self._relief()}"))
        entry.get()
        return entry.sending

    def check(self, entry):
        """Raise MessageTooLarge or BatchTooLarge if *entry* never fits; else give it its future ``sending``."""
        if self._publisher.limits is not None:      # else the sender sees, when it knows them
            self._publisher.check(entry)
        size = entry.size + _ITEM_OVERHEAD + len(entry.topic.encode())
        limit = min(self.max_bytes, MAX_MESSAGE_BYTES)
        if size > limit or entry.count > self.max_messages:
            raise BatchTooLarge(f"{entry.count} messages of {size} bytes never fit into the outbox, which has room for "
                                f"{self.max_messages} of {limit} bytes at once. Publish them in parts.",
                                size=size, limit=limit)
        entry.sending = Sending(self._linked)

    def submit(self, entries, _=None):
        """Have checked *entries* on disk, in order, also if Ctrl-C comes; each gets its outcome then."""
        self._some.set()
        try:
            self._queue(entries)
        except (KeyboardInterrupt, SystemExit):
            self._queue(entries)
            raise

    def _queue(self, entries):
        for entry in entries:
            if entry.place is not None:
                continue        # it was queued before the interruption
            if self._is_open:
                entry.place = pack_item(entry)      # now: its time to live begins
                self._waiting.append(entry)
            else:
                _fail(entry, ConnectionLost("The client is closed."))

    def _withdraw(self, entry, error):
        """Take back what is not being written; wait for what is."""
        if entry.request is None:
            _fail(entry, error)
            self._some.set()        # there may be room for those behind it
        entry.wait()

    def _take_in(self):
        while not self._closed or self._waiting or self._writing or self._written:
            with passed_on_interruptions():
                self._take_some()

    def _take_some(self):
        """Write what waits; go on with what an interruption has left."""
        if not (self._writing or self._written):
            self._some.wait()
            self._some.clear()
        self._tell()
        while self._writing or self._next_group():
            self._write(self._writing)
            self._tell()
            self._moved.set()
        self._moved.set()       # some were refused, perhaps

    def _next_group(self):
        """Return entries that are written together, ``_writing``; what has no room is refused, or waits."""
        group, waiting = self._writing, self._waiting
        count, size = self.messages, self.size_bytes
        most = size + GROUP_BYTES
        while waiting and size < most:
            entry = waiting[0]
            if not entry.ready():       # else it was withdrawn
                if count + entry.count > self.max_messages or size + len(entry.place) + 1 > self.max_bytes:
                    if self._blocks and self._is_open:
                        break
                    _fail(entry, SpoolFull(f"The outbox is full: {self.messages} messages of {self.size_bytes} bytes. "
                                           f"{self._relief()}", path=self.path))
                else:
                    entry.request = self
                    group.append(entry)
                    count += entry.count
                    size += len(entry.place) + 1
            waiting.popleft()
        return group

    def _relief(self):
        return (f"Wait until the server can be reached, or raise outbox_max_messages ({self.max_messages}) or "
                f"outbox_max_bytes ({self.max_bytes}).")

    def _write(self, group):
        if self._waiting and self._waiting[0] is group[-1]:     # after an interruption
            self._waiting.popleft()
        first = self._next
        for position, entry in enumerate(group, first):     # now: the sender may be quicker than we are
            self._sending[position] = entry.sending
        added = self._added + sum(entry.count for entry in group)
        try:
            surely(self._store, partial(self._store.add_many, [entry.place for entry in group]), (ADDED, added))
        except Exception as error:      # of the disk: nothing was added
            for position, entry in enumerate(group, first):
                self._sending.pop(position, None)
                _fail(entry, again(error) if isinstance(error, ZStreamPubError) else error)
        else:
            self._next, self._added, self._written = first + len(group), added, deque(group)
        self._writing = []

    def _tell(self):
        """Tell who has published what is on disk now."""
        while self._written:
            self._written[0].place = None
            self._written[0].settle(None)
            self._written.popleft()
        self._sender.wake()

    # --- what was sent -------------------------------------------------------------------

    def set_aside(self, entry, error):
        """Keep *entry*, which *error* says is not to be sent, with what was refused."""
        self._keep_refused(Record(pack_item(entry)), error)

    def _take_outcome(self, record, outcome, error):
        sending = self._sending.pop(self._first, None)
        self._first += 1
        if sending is not None:
            sending.settle(outcome, None if error is None else again(error))
        self._moved.set()
        self._some.set()        # there is room
        self.on_outcome(record, error)

    def _keep_refused(self, record, error, name=None):
        """Keep *record* where it can be seen; *name* of what was sent is ``[producer, sequence, number]``, growing."""
        if self._refused is None:
            self._refused = self._open_refused()
        last = self._refused.mark(_LAST)
        if name and last and last[:2] == name[:2] and last[2] >= name[2]:
            return      # before a crash
        self._refused.add(pack_refused(record, error), mark=name and (_LAST, name))
        logger.warning("What was published to %s is refused, and kept in %s: %s", record.topic, self._refused_path,
                       error)

    def _open_refused(self):
        return FifoStore(self._refused_path, max_bytes=self.max_bytes + MAX_MESSAGE_BYTES)

    @property
    def _refused_path(self):
        return os.path.join(self._store.path, REFUSED)

    # --- the end -------------------------------------------------------------------------

    @property
    def _is_open(self):
        return not self._closed and self._channels.is_open

    def _check_open(self):
        if not self._is_open:
            raise ConnectionLost("The client is closed. What was not sent is kept in the outbox.")

    def close(self):
        """Write what waits for our disk, then stop. Whoever waits for the server's gets ConnectionLost; it is kept."""
        if self._closed:
            return
        self._closed = True
        self._some.set()
        self._intake.join()
        self._sender.close()
        self._store.close()
        if self._refused is not None:
            self._refused.close()
        for sending in list(self._sending.values()):
            sending.settle(None, ConnectionLost("The client is closed. The message is kept, and will be sent when the "
                                                "outbox is opened again."))
        self._moved.set()


def _fail(entry, error):
    entry.sending.settle(None, error)
    entry.settle(None, again(error) if isinstance(error, ZStreamPubError) else error)


def _ignore(record, error):
    """Nobody wants to know."""
