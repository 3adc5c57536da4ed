"""The commands of ``zstreampub consume``: one process for each message, and what becomes of the message.

Rules: only the exit status of its command acknowledges a message. Every command leads a process
group of its own, and what ends it early ends the group. While a command runs, its message is
kept; where that fails because somebody else has got it, the command is ended: two must not work on it.
"""

import os
import signal
from errno import E2BIG
from time import monotonic

import gevent
from gevent import subprocess
from gevent.event import Event
from gevent.lock import Semaphore

from ..errors import ConnectionLost, RequestError, RequestTimeout, StaleDelivery
from .encode import payload_text, safe
from .environment import HEADER, PREFIX, is_of_message

_GRACE_S = 5.0                  # from SIGTERM to SIGKILL
_CANNOT_RUN = (126, 127)        # what a shell says of a command that it cannot run


class CannotRun(Exception):
    """The command cannot be run on this machine, whatever the message."""


class _Ended(Exception):
    """The command was ended before its time."""


class _TakenAway(_Ended):
    """Its message is not ours any more: delivered to somebody else, or the consumer is deleted."""


class Shell:
    """Runs the command *words* for deliveries of the consumer *name*; a single word with blanks is run by sh."""

    def __init__(self, words, name, address, reject_on, timeout_s, ack_wait_s):
        self._words = ["/bin/sh", "-c", words[0]] if len(words) == 1 and len(words[0].split()) > 1 else list(words)
        outside = {name: value for name, value in os.environ.items() if not is_of_message(name)}
        self._environment = {**outside, f"{PREFIX}_ADDRESS": address, f"{PREFIX}_CONSUMER": name}
        self._reject_on = frozenset(reject_on)
        self._timeout_s = float("inf") if timeout_s is None else timeout_s
        self._ack_wait_s = ack_wait_s

    def work(self, delivery):
        """Run the command for *delivery* and settle it on the server's disk. Return None, or what went wrong.

        Raises CannotRun, and then has not settled it.
        """
        try:
            status = self._run(delivery)
        except _TakenAway as error:
            return str(error)
        except _Ended as error:
            delivery.nack(reason=str(error)).get()
            return f"{error}; it is given back"
        except OSError as error:
            if error.errno != E2BIG:
                raise CannotRun(f"{self._words[0]}: {error.strerror}.") from error
            return _reject(delivery, "its key or headers are too long for the environment of a command")
        if status == 0:
            delivery.ack().get()
            return None
        reason = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
        if status in self._reject_on:
            return _reject(delivery, reason)
        if status in _CANNOT_RUN:
            raise CannotRun(f"{self._words[-1]!r} cannot be run: {reason}.")
        delivery.nack(reason=reason).get()
        return f"{reason}; it is given back"

    def _run(self, delivery):
        process = subprocess.Popen(self._words, stdin=subprocess.PIPE, start_new_session=True,
                                   env={**self._environment, **variables(delivery)})
        feeder = gevent.spawn(_feed, process.stdin, payload_text(delivery.payload))
        try:
            return self._wait(process, delivery)
        finally:
            feeder.kill(block=False)
            _end(process)

    def _wait(self, process, delivery):
        ends, extended = monotonic() + self._timeout_s, None
        while True:
            try:
                return process.wait(max(min(self._ack_wait_s / 3, ends - monotonic()), 0.001))
            except subprocess.TimeoutExpired:
                pass
            if monotonic() >= ends:
                raise _Ended(f"no end within {self._timeout_s:g} s")
            if extended is not None and extended.value is not None:
                raise _TakenAway(f"the command was ended, as its message is lost: {extended.value}")
            extended = gevent.spawn(self._extend, delivery)

    def _extend(self, delivery):
        """Return None, or why the message is not ours any more."""
        try:
            delivery.extend(self._ack_wait_s).get()
        except RequestError as error:
            return error
        except ConnectionLost:
            pass        # it is ours still, if we are back in time
        return None


class Jobs:
    """Works on deliveries, up to *most* at a time; ``work(delivery)`` returns None or what went wrong.

    ``run`` belongs to the greenlet that made it: an error that ends everything is raised there.
    """

    def __init__(self, work, most, tell):
        self.done = self.failed = 0
        self._work = work
        self._tell = tell
        self._room = Semaphore(most)
        self._running = set()
        self._idle = Event()
        self._idle.set()
        self._owner = gevent.getcurrent()

    def run(self, consumption, count, until_idle_s):
        """Work until *count* deliveries are through, none has come for *until_idle_s*, or the consumption has ended."""
        left = float("inf") if count is None else count
        while left > 0:
            self._room.acquire()
            delivery = self._next(consumption, until_idle_s)
            if delivery is None:
                break
            left -= 1
            self._idle.clear()
            self._running.add(gevent.spawn(self._settle, delivery))
        self._idle.wait()

    def stop(self):
        """End what is running, all at once, and wait for that."""
        gevent.killall(list(self._running))

    def _next(self, consumption, until_idle_s):
        while True:
            try:
                return consumption.get(until_idle_s)
            except RequestTimeout:
                if self._idle.ready():
                    return None
                self._idle.wait()       # only then does the time begin in which nothing comes

    def _settle(self, delivery):
        try:
            wrong = self._work(delivery)
        except StaleDelivery as error:
            wrong = str(error)
        except Exception as error:      # raised where it ends the run, not in this greenlet
            gevent.kill(self._owner, error)
            return
        finally:
            self._running.discard(gevent.getcurrent())
            self._room.release()
            if not self._running:
                self._idle.set()
        self.done += wrong is None
        if wrong is not None:
            self.failed += 1
            self._tell(f"message {delivery.offset} of {safe(delivery.topic)}, delivery {delivery.delivery}: {wrong}")


def variables(delivery):
    """Return what a command is told of its message in the environment."""
    found = {"TOPIC": delivery.topic, "OFFSET": delivery.offset, "TIME": delivery.time, "KEY": delivery.key,
             "ID": delivery.id, "DELIVERY": delivery.delivery}
    for name, value in (delivery.headers or {}).items():
        found[HEADER + "".join(c if c.isalnum() and c.isascii() else "_" for c in name).upper()] = value
    return {f"{PREFIX}_{name}": _text(value) for name, value in found.items() if value is not None}


def _text(value):
    if isinstance(value, bool):
        value = str(value).lower()
    raw = value if isinstance(value, bytes) else str(value).encode(errors="backslashreplace")
    return os.fsdecode(raw.replace(b"\0", b"\\0"))      # a zero would be the end of it


def _reject(delivery, reason):
    delivery.reject(reason=reason).get()
    return f"{reason}; it is a dead letter now"


def _feed(stdin, payload):
    try:
        stdin.write(payload)
        stdin.close()
    except OSError:     # a command need not read its message
        pass


def _end(process):
    """End the process, unless it has ended by itself, and all that it has started."""
    if process.poll() is not None:
        return
    _signal_group(process, signal.SIGTERM)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process, number):
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
