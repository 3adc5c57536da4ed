"""What a table keeps of its topic: the newest value of each key. Everything here runs on the hub of the log.

A view holds what the log says up to one offset, ``position``, and nothing of what comes after:
it is loaded by reading the topic once, and then follows it. Where something was missed, it reads all again.
"""

import logging
from typing import Any, NamedTuple

import gevent
from gevent.event import AsyncResult

from ..errors import EpochMismatch, RequestTimeout, StoreClosed, ZStreamPubError
from .watch import Change

logger = logging.getLogger(__name__)


class Entry(NamedTuple):
    """What is known of one key."""

    value: Any
    offset: int


class View:
    """``entries`` is a dict of key -> :class:`Entry`, which any thread may read.

    ``topic_next`` is the offset after the newest message of the topic that was seen. ``error`` is
    set when the view does not follow any more: from then on it would only grow old.
    """

    def __init__(self, port, topic):
        self.entries = {}
        self.position = self.topic_next = 0
        self.error = None
        self.watches = set()
        self._port = port
        self._topic = topic
        self._waiting = []      # (offset, AsyncResult)
        self._reading = None

    def load(self):
        """Read the topic; then follow it."""
        self._read()
        gevent.spawn(self._run)

    def close(self, error=None):
        """Stop following; whoever waits for the view or watches it is told the end."""
        if self.error is None:
            self.error = error or StoreClosed("The table is closed.")
        self._leave()
        for _, answer in self._waiting:
            answer.set()
        for watch in tuple(self.watches):
            watch.end(error)

    def check(self):
        """Raise why it does not follow any more, if so."""
        if self.error is not None:
            raise type(self.error)(str(self.error), **self.error.facts)

    def wait_for(self, offset, timeout_s):
        """Wait until everything below *offset* is in the view. Raises RequestTimeout."""
        if self.position < offset and self.error is None:
            waiting = offset, AsyncResult()
            self._waiting.append(waiting)
            try:
                waiting[1].wait(timeout_s)
            finally:
                self._waiting.remove(waiting)
        self.check()
        if self.position < offset:
            raise RequestTimeout(f"The change is stored, but did not come back within {timeout_s} s: the table may be "
                                 "cut off from the server. It catches up by itself.", timeout_s=timeout_s)

    # --- following -------------------------------------------------------------------------

    def _run(self):
        try:
            while self._follow():
                self._read()
            self.close()
        except ZStreamPubError as error:
            self.close(error)
        except Exception as error:
            logger.exception("The table on %s does not follow its topic any more.", self._topic)
            self.close(ZStreamPubError(f"The table does not follow any more: {error!r}."))

    def _follow(self):
        """Take what comes; return whether something was missed, so that all must be read again."""
        try:
            for item in self._reading or ():
                if hasattr(item, "messages"):
                    self._take(item)
                elif item.why != "conflate":
                    return True         # a deletion may be among what is gone
        except EpochMismatch:
            return True                 # the log was made anew
        return False

    def _take(self, batch):
        for message in batch.messages():
            change = _apply(self.entries, message)
            if change is not None:
                self._tell(change)
        self.topic_next = batch.next
        self._reach(batch.next)

    def _reach(self, position):
        self.position = position
        for offset, answer in self._waiting:
            if offset <= position:
                answer.set()

    def _tell(self, change):
        for watch in tuple(self.watches):
            watch.put(change)

    # --- reading it all --------------------------------------------------------------------

    def _read(self):
        """Read the topic from its first message to the end of now, and open what follows."""
        self._leave()
        entries, topic_next = {}, 0
        self._reading = reading = self._port.read(self._topic)
        for item in reading:
            if hasattr(item, "messages"):
                for message in item.messages():
                    _apply(entries, message)
                topic_next = item.next
        start, epoch = reading.position, reading.epoch
        self._leave()
        self.check()    # it may have been closed meanwhile
        self._reading = self._port.follow(self._topic, start, epoch)
        before, self.entries, self.topic_next = self.entries, entries, topic_next
        for key in before.keys() | entries.keys():
            old, new = before.get(key), entries.get(key)
            if old != new:
                self._tell(Change(key, new and new.value, old and old.value, new.offset if new else start))
        self._reach(start)

    def _leave(self):
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()


def _apply(entries, message):
    """Do to *entries* what *message* says; return the Change, None if it says nothing."""
    key, value = message.key, message.payload
    if key is None:
        return None     # somebody published to the topic of a table without a key
    if value is None:
        old = entries.pop(key, None)
        if old is None:
            return None
    else:
        old = entries.get(key)
        entries[key] = Entry(value, message.offset)
    return Change(key, value, old and old.value, message.offset)
