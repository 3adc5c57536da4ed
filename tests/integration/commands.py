"""Real ``zstreampub`` processes for the tests of the command and of the quickstart.

Every wait has a deadline, and every process ends with its test.
"""

import os
import pty
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30


def environment(**more):
    """Return an environment without the settings of whoever runs the tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ZSTREAMPUB_", "QUICKSTART_"))}
    return {**clean, "PYTHONPATH": str(ROOT), **more}


class Running:
    """A process whose lines are read as they come; a context manager, at the end of which it is gone."""

    def __init__(self, argv, cwd=None, env=None, stdin=subprocess.DEVNULL, wait_s=DEADLINE_S):
        self._wait_s = wait_s
        self.process = subprocess.Popen(argv, cwd=cwd, env=env or environment(), stdin=stdin, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, start_new_session=True)
        self._lines = {"out": queue.Queue(), "err": queue.Queue()}
        self._readers = [threading.Thread(target=self._read, args=(name, pipe), daemon=True) for name, pipe in
                         (("out", self.process.stdout), ("err", self.process.stderr))]
        for reader in self._readers:
            reader.start()

    def _read(self, name, pipe):
        for line in pipe:
            self._lines[name].put(line.decode(errors="replace").rstrip("\n"))
        self._lines[name].put(None)

    def line(self, stream="out", matching=""):
        """Return the next line that matches; fail if the stream ends or nothing comes in time."""
        seen = []
        while True:
            try:
                line = self._lines[stream].get(timeout=self._wait_s)
            except queue.Empty:
                raise AssertionError(f"no {matching!r} on std{stream} in time, but {seen}") from None
            assert line is not None, f"std{stream} ended without {matching!r}: {seen}"
            seen.append(line)
            if re.search(matching, line):
                return line

    def rest(self, stream="out"):
        """Return the lines up to the end of the stream."""
        return list(iter(lambda: self._lines[stream].get(timeout=self._wait_s), None))

    def signal(self, number=signal.SIGINT):
        self.process.send_signal(number)

    def wait(self):
        """Wait for the end; return the exit code."""
        return self.process.wait(self._wait_s)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()        # it may have children of its own to end
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        for reader in self._readers:
            reader.join(DEADLINE_S)


class Command(Running):
    """``zstreampub ARGS`` with this Python; *address* is the server's."""

    def __init__(self, *args, address=None, cwd=None, stdin=subprocess.DEVNULL, **env):
        if address:
            env["ZSTREAMPUB_ADDRESS"] = address
        super().__init__(argv_of(*args), cwd, environment(**env), stdin)


class Serve(Command):
    """``zstreampub serve`` on a port of its own; ``address`` is where. Ready when the constructor returns."""

    def __init__(self, *args, bind="tcp://127.0.0.1:0", **more):
        super().__init__("serve", "--bind", bind, *args, **more)
        try:
            self.ready = self.line("err", " serving ")
        except BaseException:
            self.__exit__()
            raise
        self.address = re.search(r"on (tcp://127\.0\.0\.1:\d+)", self.ready)[1]


def argv_of(*args):
    """Return the words of ``zstreampub ARGS`` with this Python."""
    return [sys.executable, "-m", "zstreampub.cli", *map(str, args)]


def on_terminal(address, *args):
    """Return what the command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "ZSTREAMPUB_ADDRESS": address, "TERM": "xterm-256color", "COLUMNS": "120"}
    env.pop("NO_COLOR", None)
    with subprocess.Popen(argv_of(*args), stdin=theirs, stdout=theirs, stderr=theirs, env=env) as command:
        os.close(theirs)
        written = b""
        try:
            while piece := os.read(ours, 65_536):
                written += piece
        except OSError:     # how Linux tells the end of a terminal
            pass
        assert command.wait(DEADLINE_S) == 0, written
    os.close(ours)
    return written.decode()
