"""The pump of ``zstreampub publish``: lines in, messages out, a bounded number of them on the way, and the account.

Two greenlets: one reads and publishes, one takes the answers in the same order. So a
refused line is told at once also where the next line does not come for hours.
"""

import time
from contextlib import suppress

import gevent
from gevent.queue import Queue

from ..errors import RequestError, ZStreamPubError

_SHOWN = 20         # complaints shown one by one; the rest is only counted
_DONE = object()


class Account:
    """What became of the lines."""

    def __init__(self, say):
        self.published = 0
        self.skipped = 0
        self.first = None
        self.next = None
        self._say = say
        self._started = time.monotonic()

    def add(self, offset):
        self.published += 1
        if self.first is None or offset < self.first:
            self.first = offset
        if self.next is None or offset >= self.next:
            self.next = offset + 1

    def skip(self, place, reason):
        """Count a line that was not published, and say so while there are not too many."""
        self.skipped += 1
        if self.skipped <= _SHOWN:
            self._say(f"{place}: {reason}")
        elif self.skipped == _SHOWN + 1:
            self._say("more lines were skipped; they are only counted from here on")

    def summary(self):
        """Return the closing sentence."""
        took = max(time.monotonic() - self._started, 1e-6)
        text = f"{_count(self.published, 'message')} in {took:.1f} s ({self.published / took:,.0f}/s)"
        if self.published:
            text += f", offsets [{self.first}, {self.next})"
            others = self.next - self.first - self.published
            if others > 0:
                text += f" with {others:,} not of this run among them"
        if self.skipped:
            text += f"; {_count(self.skipped, 'line')} skipped"
        return text


class Pump:
    """Publishes what *entries* yields through *producer*.

    An entry is ``(place, make)``: ``make()`` returns ``(topic, payload, key, headers, id)`` or raises
    ValueError with the reason why the line cannot be published. At most *window*
    messages wait for their answer. A line that is refused is skipped, or ends the run
    if *stop*; anything that is not the line's fault is raised.
    """

    def __init__(self, producer, account, window, stop):
        self._producer = producer
        self._account = account
        self._stop = stop
        self._answers = Queue(maxsize=window)

    def run(self, entries):
        """Return when every entry has its answer."""
        reader = gevent.spawn(self._read, entries)
        try:
            self._collect()
        finally:
            reader.kill()
        reader.get(block=False)

    def finish(self, timeout_s):
        """After an interruption: take the answers to what was sent already, for a while."""
        with gevent.Timeout(timeout_s, False), suppress(ZStreamPubError):
            while not self._answers.empty():
                place, future, error = self._answers.get()
                if place is not _DONE:
                    self._take(place, future, error)

    def _read(self, entries):
        try:
            for place, make in entries:
                try:
                    topic, payload, key, headers, id = make()
                    future = self._producer.publish(topic, payload, key=key, headers=headers, id=id)
                except (ValueError, RequestError) as error:
                    self._answers.put((place, None, error))
                else:
                    self._answers.put((place, future, None))
        except Exception as error:      # raised where somebody waits for it, not in this greenlet
            self._answers.put((_DONE, None, error))
        else:
            self._answers.put((_DONE, None, None))

    def _collect(self):
        while True:
            place, future, error = self._answers.get()
            if place is _DONE:
                if error is not None:
                    raise error
                return
            if not self._take(place, future, error) and self._stop:
                return

    def _take(self, place, future, error):
        try:
            if error is not None:
                raise error
            self._account.add(future.get())
        except (ValueError, RequestError) as reason:
            self._account.skip(place, str(reason))
            return False
        return True


def _count(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
