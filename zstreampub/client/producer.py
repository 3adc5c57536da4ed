"""Publishing without waiting for each answer: futures, and a short linger in which messages gather."""

from collections import deque

import gevent
from gevent.event import Event

from ..errors import RequestError, RequestTimeout
from . import entries

_LINGER_BYTES = entries.FRAME_BYTES     # enough for a request: no use in lingering on
_MOST_FAILED = 100


class Producer:
    """Publishes in the order of the calls; each returns a future at once.

    Made by ``Client.producer``. At most *max_pending_bytes* are without an answer; a
    ``publish`` beyond that waits. Errors come out of the futures; :meth:`flush` and
    :meth:`close` raise the first error whose future nobody has asked. With an outbox all this is about the
    disk here, and only the futures wait for the server.
    """

    def __init__(self, check_owner, publisher, linger_s, max_pending_bytes, timeout_s):
        self.pending = 0            # messages without an answer
        self._check_owner = check_owner
        self._publisher = publisher
        self._linger_s = linger_s
        self._max_pending_bytes = max_pending_bytes
        self._timeout_s = timeout_s
        self._gathered: list = []
        self._gathered_bytes = self._pending_bytes = 0
        self._changed = Event()
        self._changed.set()
        self._failed = deque(maxlen=_MOST_FAILED)
        self._closed = False
        self._timer = gevent.get_hub().loop.timer(linger_s)     # not used where that is 0
        self._lingering = False

    def publish(self, topic, payload, *, content_type=None, headers=None, key=None, id=None, unique=None, ttl_s=None):
        """Publish one message; return a future whose ``get()`` gives its offset.

        *content_type*, *id*, *unique* and *ttl_s* are as in ``Client.publish``.
        Raises at once what is wrong with the message, and RequestTimeout if there is no
        room for it within the client's timeout.
        """
        return self._put(entries.single(topic, payload, headers, key, id, unique, ttl_s, content_type))

    def publish_many(self, topic, payloads, *, content_type=None, headers=None, keys=None, ids=None, unique=None,
                     ttl_s=None):
        """Publish a list of messages, all or none; the future gives ``(first, next)``."""
        return self._put(entries.several(topic, payloads, headers, keys, ids, unique, ttl_s, content_type))

    def flush(self, timeout_s=None):
        """Wait until everything published so far has its answer; raise the first error since the last flush."""
        self._hand_over()
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        self._wait(lambda: not self.pending, timeout_s, "Not everything was answered")
        failed, self._failed = self._failed, deque(maxlen=_MOST_FAILED)
        for entry in failed:
            if not entry.asked:
                raise entry.exception

    def close(self):
        """Flush, then refuse further messages."""
        if self._closed:
            return
        self._closed = True
        try:
            self.flush()
        finally:
            self._timer.stop()
            self._timer.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.close()
        except Exception:
            if kind is None:        # else the error that is under way matters more
                raise

    def _put(self, entry):
        self._check_owner()
        if self._closed:
            raise RequestError("The producer is closed.")
        self._publisher.check(entry)
        if not self._has_room(entry):
            self._wait(lambda: self._has_room(entry), self._timeout_s, "There was no room for the message")
            if self._closed:
                raise RequestError("The producer was closed.")
        entry.on_outcome = self._take_outcome
        self.pending += entry.count
        self._pending_bytes += entry.size
        self._gathered.append(entry)
        self._gathered_bytes += entry.size
        if not self._linger_s or self._gathered_bytes >= _LINGER_BYTES:
            self._hand_over()
        elif not self._lingering:
            self._lingering = True
            self._timer.start(self._hand_over)
        return _future(entry)

    def _hand_over(self):
        self._timer.stop()
        self._lingering = False
        gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
        if gathered:
            self._publisher.submit(gathered, self._timeout_s)

    def _has_room(self, entry):
        return not self._pending_bytes or self._pending_bytes + entry.size <= self._max_pending_bytes

    def _wait(self, fulfilled, timeout_s, complaint):
        """Wait until *fulfilled()*, which can change only when an answer comes."""
        with gevent.Timeout(timeout_s, RequestTimeout(f"{complaint} within {timeout_s} s.", timeout_s=timeout_s)):
            while not fulfilled():
                self._hand_over()
                self._changed.clear()
                self._changed.wait()

    def _take_outcome(self, entry):
        self.pending -= entry.count
        self._pending_bytes -= entry.size
        if not entry.successful():
            self._failed.append(_future(entry))
        if not self._changed.is_set():
            self._changed.set()


def _future(entry):
    """Return what whoever has published *entry* asks: through an outbox, when it is sent."""
    return entry if entry.sending is None else entry.sending
