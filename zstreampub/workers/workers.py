"""Workers: the writer's side. It starts them, wakes them, starts them again, and sends subscribers to them."""

import json
import logging
import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from time import monotonic

import gevent
from gevent.event import Event
from gevent.socket import wait_read

from ..checks import whole
from ..errors import InvalidOption, Moved
from ..policy import BUILT_IN
from ..stores.follower import WAKE
from .places import beside

_AGAIN_S = 0.5          # a worker that has ended is started again after so long, then twice as long, ...
_AGAIN_MOST_S = 15.0
_STEADY_S = 30.0        # a worker that was there for so long was a good one
_ARRIVAL_S = 3.0        # who has not arrived by then does not come
_LOOK_S = 0.02          # whether a process has ended
_LATE_S = 5.0           # beyond drain_timeout_s, for a worker that is to end
_REPORT_BYTES = 65_536
_SETTLE_S = 1.0         # a worker that is there for so long takes its share from the others
_LET_GO = b"\1"         # sent to a worker: it should end one subscription that can go elsewhere
# It finds modules where its writer finds them, however that was started.
_PROGRAM = ("import sys; del sys.path[0]; import json; options = json.loads(sys.argv[1]); "
            "sys.path[:] = options['path']; "
            "from zstreampub.workers.worker import main; main(options)")

logger = logging.getLogger(__name__)


class Workers:
    """*count* processes that read the log of *broker*, which must be an LmdbStore's, and serve subscribers.

    *bind* are the endpoints that the writer was told to listen on, *worker_bind* those of the workers, one for each;
    none: they listen beside the writer's, see :func:`beside`. Raises InvalidOption.
    """

    def __init__(self, broker, count, bind, worker_bind=()):
        if worker_bind and len(worker_bind) != count:
            raise InvalidOption(f"There are {count} workers and {len(worker_bind)} endpoints for them; name one for "
                                "each.", option="worker_bind")
        if count and not hasattr(broker.store, "committed"):
            raise InvalidOption("Workers read the log from the disk; a store in memory has none. Use lmdb:DIRECTORY.",
                                option="workers")
        places = [[one] for one in worker_bind] or [[beside(one, number) for one in bind]
                                                    for number in range(1, count + 1)]
        self._broker = broker
        self._endpoints = []
        self._workers = [Worker(number, place) for number, place in enumerate(places, 1)]
        self._tasks = []

    def start(self, endpoints):
        """Start them; *endpoints* are where the writer listens. Does not wait until they serve."""
        if not self._workers:
            return
        self._endpoints = endpoints
        store, settings = self._broker.store, self._broker.settings
        options = {"directory": store.directory, "writer": endpoints, "parent": os.getpid(),
                   "settings": {name: value for name, value in asdict(settings).items() if name != "retention"},
                   "log_level": logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower()}
        self._tasks = [gevent.spawn(worker.keep, options, self._joined) for worker in self._workers]
        store.show(self._wake)
        self._broker.workers = self

    def stop(self):
        """Have them drain and end; does not wait."""
        for worker in self._workers:
            worker.stop()

    def close(self):
        """End them, at the latest after ``drain_timeout_s`` and 5 s."""
        self.stop()
        self._broker.workers = None
        gevent.joinall(self._tasks, self._broker.settings.drain_timeout_s + _LATE_S)
        gevent.killall(self._tasks)

    def offer(self, start, policy):
        """Raise Moved if a worker can take over a subscription with this *start* and *policy*."""
        here = [worker for worker in self._workers if worker.endpoints]
        if (not here or policy.holds_publisher or policy.name not in BUILT_IN
                or (whole(start) or 0) > self._broker.next):     # that is refused here
            return
        worker = min(here, key=lambda worker: worker.load)
        worker.expect_one()
        where = {"offset": self._broker.next} if start == "new" else {}
        raise Moved(f"Subscribe at {' or '.join(worker.endpoints)}.", endpoints=self._places_of(worker),
                    epoch=self._broker.epoch, **where)

    def describe(self):
        """Return a map for each worker that serves; ``endpoints`` maps the writer's to its own."""
        return [{"worker": worker.number, "pid": worker.pid, "endpoints": self._places_of(worker),
                 "subscriptions": worker.subscriptions} for worker in self._workers if worker.endpoints]

    def share_out(self):
        """Have those that have more than their share let go of the rest; it comes back by :meth:`offer`."""
        here = [worker for worker in self._workers if worker.endpoints]
        if not here:
            return
        movable = len(self._broker.movable)
        share = -(-(movable + sum(worker.load for worker in here)) // len(here))
        self._broker.let_go(movable)
        for worker in here:
            worker.let_go(worker.load - share)

    def _joined(self):
        gevent.spawn_later(_SETTLE_S, self.share_out)

    def _places_of(self, worker):
        return dict(zip(self._endpoints, worker.endpoints * len(self._endpoints)))      # one for each, or one for all

    def _wake(self):
        for worker in self._workers:
            worker.wake()


class Worker:
    """One of them: its process, whenever there is one, and the line to it.

    ``endpoints`` are where it serves, none while it does not; ``load`` is how many subscriptions it has or soon will.
    """

    def __init__(self, number, bind):
        self.number = number
        self.bind = bind
        self.pid = None
        self.endpoints = []
        self.subscriptions = 0
        self._opened = self._expected = 0
        self._expected_at = 0.0
        self._line = self._process = None
        self._joined = _nothing
        self._ending = Event()

    @property
    def load(self):
        return self.subscriptions + (self._expected if monotonic() - self._expected_at < _ARRIVAL_S else 0)

    def expect_one(self):
        """Learn that one more subscription was sent there."""
        self._expected = self.load - self.subscriptions + 1
        self._expected_at = monotonic()

    def keep(self, options, joined):
        """Have it run until :meth:`stop`, and call ``joined()`` when it begins to serve; in a greenlet of its own."""
        self._joined = joined
        pause_s = _AGAIN_S
        while not self._ending.is_set():
            began = monotonic()
            try:
                status = self._run(options)
            except OSError as error:    # there can be no process now
                status = error
            if self._ending.is_set():
                return
            if monotonic() - began > _STEADY_S:
                pause_s = _AGAIN_S
            logger.warning("worker %d (pid %s) ended with status %s; another one is started in %.1f s",
                           self.number, self.pid, status, pause_s)
            self._ending.wait(pause_s)
            pause_s = min(2 * pause_s, _AGAIN_MOST_S)

    def wake(self):
        """Tell it that there is something new. If the line is full it has not looked yet."""
        self._send(WAKE)

    def let_go(self, count):
        """Have it end *count* subscriptions that can go elsewhere."""
        if count > 0:
            self._send(_LET_GO * count)

    def stop(self):
        """Have it drain and end."""
        self._ending.set()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def _run(self, options):
        """Start a process, listen to it, and return its status once it has ended."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs:
                self._process = self._start(options, theirs.fileno())
            self.pid, self._line = self._process.pid, ours
            try:
                self._listen(ours)
                return self._wait()
            finally:
                self._line, self.endpoints = None, []
                if self._process.poll() is None:
                    self._process.kill()
                    self._process.wait()

    def _start(self, options, line):
        options = {**options, "number": self.number, "bind": self.bind, "line": line, "path": sys.path}
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(options)], stdin=subprocess.DEVNULL, pass_fds=(line,),
            start_new_session=True)     # ctrl-C is the writer's

    def _send(self, what):
        if self._line is not None:
            with suppress(OSError):     # it is full, or broken, of which somebody else hears
                os.write(self._line.fileno(), what)

    def _listen(self, line):
        """Take its reports until it ends."""
        rest = b""
        while True:
            wait_read(line.fileno())
            with suppress(BlockingIOError):
                got = _recv(line)
                if not got:
                    return
                *reports, rest = (rest + got).split(b"\n")
                for report in reports:
                    self._take(json.loads(report))

    def _take(self, report):
        if not self.endpoints:
            logger.info("worker %d (pid %s) serves on %s", self.number, self.pid, ", ".join(report["endpoints"]))
            self._opened = self._expected = 0
            self._joined()
        self._expected = max(self._expected - (report["opened"] - self._opened), 0)
        self.endpoints, self.subscriptions, self._opened = (
            report["endpoints"], report["subscriptions"], report["opened"])

    def _wait(self):
        while self._process.poll() is None:
            gevent.sleep(_LOOK_S)
        return self._process.returncode


def _nothing():
    pass


def _recv(line):
    try:
        return line.recv(_REPORT_BYTES)
    except ConnectionResetError:
        return b""
