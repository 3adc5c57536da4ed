"""The processes of one measurement: started fresh, told when to go, looked at from outside.

An *actor* is a function ``target(link, *args)`` in a process of its own: it says
``link.ready()``, publishers then wait for ``link.go()``, and all return a dict with ``began`` and
``ended`` (``time.perf_counter()``, one clock for all processes of a machine). Processor time and
memory are read from outside by this process, so that measuring costs the measured nothing.
"""

import multiprocessing
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from typing import NamedTuple

import psutil
import zmq

from zstreampub import wire
from zstreampub.allocator import keep_freed_memory

READY_S = 30
RESULT_S = 100
_CPU_CLOCK = 2
_spawn = multiprocessing.get_context("spawn")       # a fork would share a gevent hub


class Failed(Exception):
    """A process of the benchmark failed, or lost, repeated or reordered a message."""


class Missing(Exception):
    """A peer that is not installed; the text says what to install."""


class Link:
    """The actor's end of the line to the stage."""

    def __init__(self, pipe):
        self._pipe = pipe

    def ready(self, **facts):
        """Say that this actor is ready; *facts* are for whoever started it."""
        self._pipe.send(("ready", facts))

    def go(self):
        """Wait for the start; blocks the whole process."""
        self._pipe.recv()


def _play(pipe, target, args):
    keep_freed_memory()     # as our server does; so the system's zeroing of pages is in nobody's figures
    try:
        pipe.send(("result", target(Link(pipe), *args)))
        pipe.recv()     # stay, so that the processor time can be read
    except EOFError:
        pass
    except Exception:
        pipe.send(("failed", traceback.format_exc()))


class Actor:
    """The stage's end: one running process."""

    def __init__(self, target, args):
        self._pipe, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_play, args=(theirs, target, args), daemon=True)
        self._process.start()
        theirs.close()
        self.pid = self._process.pid
        self.facts = None

    def wait_ready(self):
        self.facts = self._receive("ready", READY_S)

    def go(self):
        self._pipe.send("go")

    def has_result(self):
        """Whether :meth:`result` would not wait."""
        return self._pipe.poll()

    def result(self):
        return self._receive("result", RESULT_S)

    def end(self):
        self._process.kill()
        self._process.join()

    def _receive(self, wanted, timeout_s):
        if not self._pipe.poll(timeout_s):
            raise Failed(f"{self._process.name} sent no {wanted!r} within {timeout_s} s")
        try:
            kind, value = self._pipe.recv()
        except EOFError:
            raise Failed(f"{self._process.name} died") from None
        if kind != wanted:
            raise Failed(value)
        return value


class Command:
    """A server under test: the ``zstreampub`` command itself."""

    def __init__(self, endpoint, store, *options):
        arguments = ["serve", "--bind", endpoint, "--store", store, "--log-level", "warning", *options]
        self._command = [sys.executable, "-m", "zstreampub.cli", *arguments]
        self.endpoint = endpoint
        self._start()
        ask(endpoint, "about")

    def _start(self):
        self.started_at = time.perf_counter()
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        self.pid = self._process.pid

    def crash(self):
        """kill -9, and start again; return at once."""
        self._process.kill()
        self._process.wait()
        self._start()

    def restart(self):
        """End in good order, and start again; return at once."""
        self.end()
        self._start()

    def end(self):
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Measured(NamedTuple):
    """What :meth:`Stage.run` saw. ``results`` are those of the publishers, then of the subscribers.

    ``publisher_cpu_s`` and ``subscriber_cpu_s`` are of the busiest process of each kind. ``other_load`` is how many
    cores were used by what does not belong to the run.
    """

    seconds: float
    results: list
    server_cpu_s: float
    clients_cpu_s: float
    publisher_cpu_s: float
    subscriber_cpu_s: float
    server_bytes: int
    other_load: float


class Stage:
    """Starts processes and ends them all when it is left; ``folder`` goes with them."""

    def __init__(self, store="lmdb:", parent=None):
        self._store = store
        self._parent = parent
        self._cast = []
        self.server = None

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="zstreampub-benchmark-", dir=self._parent)
        return self

    def __exit__(self, *_):
        for one in reversed(self._cast):
            one.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def serve(self, *options):
        """Start the server under test; return its endpoint."""
        store = f"lmdb:{self.folder}/log" if self._store == "lmdb:" else self._store
        return self.add_server(Command(free_endpoint(), store, *options)).endpoint

    def add_server(self, server):
        """Take a server that is running already: something with a ``pid`` and an ``end``."""
        self.server = server
        self._cast.append(server)
        return server

    def start_server(self, target, *args):
        """Start another server, an actor, and wait until it is ready."""
        self.server = self.start(target, *args)
        return self.server

    def start(self, target, *args):
        """Start an actor and wait until it is ready."""
        actor = Actor(target, args)
        self._cast.append(actor)
        actor.wait_ready()
        return actor

    def run(self, publishers, subscribers=(), meanwhile=None):
        """Let *publishers* go, call *meanwhile*, and wait for the result of everybody."""
        clients = [*publishers, *subscribers]
        before = [cpu_s(one.pid) for one in clients]
        server_before = cpu_s(self.server.pid) if self.server else 0.0
        machine_before, since = machine_cpu_s(), time.perf_counter()
        for publisher in publishers:
            publisher.go()
        if meanwhile is not None:
            meanwhile()
        results = [client.result() for client in clients]
        used = [cpu_s(one.pid) - was for one, was in zip(clients, before)]
        server_cpu_s = cpu_s(self.server.pid) - server_before if self.server else 0.0
        other_cpu_s = max(machine_cpu_s() - machine_before - sum(used) - server_cpu_s, 0.0)
        other_load = other_cpu_s / (time.perf_counter() - since)
        seconds = max(one["ended"] for one in results) - min(one["began"] for one in results[:len(publishers)])
        return Measured(seconds, results, server_cpu_s, sum(used), max(used[:len(publishers)]),
                        max(used[len(publishers):], default=0.0), private_bytes(self.server) if self.server else 0,
                        other_load)


def cpu_s(pid):
    """Return the processor seconds, user and system, that a process has used."""
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)     # as clock_getcpuclockid has it; psutil counts in 10 ms


def machine_cpu_s():
    """Return the processor seconds that all of the machine has used."""
    times = psutil.cpu_times()
    return sum(times[:7]) - times.idle - times.iowait       # guest time, after these, is in user time


def private_bytes(process):
    """Return the resident bytes of a process without what it maps from files: the log's pages are the system's."""
    memory = psutil.Process(process.pid).memory_info()
    return memory.rss - memory.shared


def written_bytes(process):
    """Return the bytes that a process has caused to be written to a disk."""
    return psutil.Process(process.pid).io_counters().write_bytes


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def free_endpoint():
    return f"tcp://127.0.0.1:{free_port()}"


def ask(endpoint, name, *args):
    """Call a method of a zerorpc server and return its answer; wait for the server to come up."""
    with Caller(endpoint) as caller:
        return caller.call(name, *args)


class Caller:
    """Calls to a zerorpc server, by blocking; a plain socket, so that it costs next to nothing."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self._context = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.linger = 0
        self._dealer.reconnect_ivl = 10     # a server that starts is to be seen at once
        self._dealer.set_hwm(0)
        self._dealer.connect(endpoint)
        self._calls = 0
        self.waiting = 0        # calls that were not answered yet

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._context.destroy(linger=0)

    def post(self, name, args):
        """Send a call; do not wait."""
        self._calls += 1
        self.waiting += 1
        self._dealer.send_multipart([b"", wire.request(b"%d" % self._calls, name, args)])

    def call(self, name, *args):
        """Return what *name* answers; nothing else may be waiting."""
        self.post(name, args)
        return self.wait(0)

    def wait(self, most):
        """Wait until at most so many calls are waiting; return the last answer."""
        answer = None
        while self.waiting > most:
            if not self._dealer.poll(READY_S * 1000):
                raise Failed(f"{self.endpoint} did not answer within {READY_S} s")
            answer = self._receive()
        return answer

    def take(self, timeout_s):
        """Take the answers that are there, or come within *timeout_s*."""
        while self.waiting and self._dealer.poll(timeout_s * 1000):
            self._receive()

    def _receive(self):
        _, event, value = wire.unpack_event(self._dealer.recv_multipart()[-1])
        if event == wire.ERR:
            raise Failed(f"{self.endpoint}: {value}")
        self.waiting -= event == wire.OK
        return value[0] if event == wire.OK else None
