"""Real processes for tests: a server, its clients, and what can happen to a process.

Nothing here blocks the hub, so stock clients in the test's own process keep beating.
Every process ends with the test: use them as context managers.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import gevent
import zerorpc

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 30


def wait_until(condition, what, deadline_s=DEADLINE_S):
    """Return the first true value of *condition()*; fail, saying *what* did not come, after the deadline."""
    ends = monotonic() + deadline_s
    while not (value := condition()):
        assert monotonic() < ends, f"not within {deadline_s} s: {what() if callable(what) else what}"
        gevent.sleep(0.01)
    return value


class Child:
    """One Python process of a test: ``python -m MODULE ARGUMENTS``. It says things as JSON lines on stdout."""

    def __init__(self, directory, module, *arguments, **environment):
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        number = len(list(directory.glob("*.log")))
        self._out = directory / f"{module.rpartition('.')[2]}-{number}.out"
        self._log = self._out.with_suffix(".log")
        self.exit_code = None
        with open(self._out, "wb") as out, open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-m", module, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=out,
                stderr=log, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment})
        self.pid = self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    @property
    def running(self):
        if self.exit_code is None:
            self.exit_code = self._process.poll()
        return self.exit_code is None

    def said(self):
        """Return what the process has said so far, as a list."""
        return [json.loads(line) for line in self._out.read_bytes().split(b"\n")[:-1]]

    def said_count(self):
        """Return how many things it has said: cheaper than ``len(said())``."""
        return self._out.read_bytes().count(b"\n")

    def log(self):
        """Return what the process has written to stderr."""
        return self._log.read_text(errors="replace")

    def wait(self, deadline_s=DEADLINE_S):
        """Wait for the end of the process; return its exit code."""
        wait_until(lambda: not self.running, lambda: f"end of {self._log}\n{self.log()}", deadline_s)
        return self.exit_code

    # --- what can happen to a process --------------------------------------------------------

    def kill(self):
        """kill -9, if it is still there."""
        if self.running:
            self._process.kill()
            self.exit_code = self._process.wait()

    def terminate(self, number=signal.SIGTERM):
        self._process.send_signal(number)

    def freeze(self):
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self._process.send_signal(signal.SIGCONT)

    # --- what it uses ---------------------------------------------------------------------------

    def rss(self):
        """Return resident memory in bytes; without mapped files, which the kernel takes back as it likes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) * 1024

    def peak_rss(self):
        """Return the most resident memory that it ever had, in bytes."""
        return int(Path(f"/proc/{self.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024

    def written(self):
        """Return how many bytes it has given the system to be written to files since its start."""
        return int(Path(f"/proc/{self.pid}/io").read_text().partition("wchar:")[2].split()[0])

    def fds(self):
        """Return the number of open file descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class ServerProcess(Child):
    """A real server: ``tests/serving.py`` on a port of its own. Ready when the constructor returns.

    *store* is a URL; the default is LMDB in *directory*, so that a second server there finds the log
    of the first. *endpoint* is given to serve on the same port again.
    """

    def __init__(self, directory, store=None, endpoint="tcp://127.0.0.1:0", service=None, clock=None, workers=0,
                 **settings):
        self.directory = Path(directory)
        self.store = store or f"lmdb:{self.directory / 'store'}"
        self._again = dict(store=store, service=service, clock=clock, workers=workers, **settings)
        options = {"bind": endpoint, "store": self.store, "settings": settings, "service": service,
                   "clock": str(clock) if clock else None, "workers": workers}
        super().__init__(self.directory, "tests.serving", json.dumps(options))
        try:
            ready = wait_until(lambda: self.said() or not self.running, lambda: f"a server\n{self.log()}")
            assert self.running, f"the server did not start\n{self.log()}"
        except BaseException:
            self.kill()
            raise
        self.endpoint = ready[0]["endpoint"]

    def again(self):
        """Return a new server on the same store and port; this one must have ended."""
        return ServerProcess(self.directory, endpoint=self.endpoint, **self._again)

    def census(self):
        """Return what lives in the server: greenlets, channels, peers, subscriptions, fds, rss."""
        with client(self) as asking:
            return {**asking.census(), "fds": self.fds(), "rss": self.rss()}


@contextmanager
def client(server, **options):
    """A stock zerorpc client of *server* (or of an endpoint), closed at the end."""
    endpoint = getattr(server, "endpoint", server)
    one = zerorpc.Client(**{"timeout": DEADLINE_S, "heartbeat": 5, **options})
    one._events.setsockopt(17, 0)   # ZMQ_LINGER: a closed client must not wait for a dead server
    one.connect(endpoint)
    try:
        yield one
    finally:
        one.close()


def messages(items):
    """Return those of *items* that are messages."""
    return [item for item in items if "control" not in item]


def controls(items, kind):
    """Return those of *items* that are controls of *kind*."""
    return [item for item in items if item.get("control") == kind]
