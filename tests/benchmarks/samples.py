"""What a running process does, looked at from outside: counted by the kernel, sampled by perf and by py-spy.

The three look in turns, for each slows down what it looks at. Nothing in the process knows of it.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from .stage import Missing

HERTZ = 250
_ATTACH_S = 1.0
_IDLE = ("acquire_with_timeout", "Hub.run", "run (gevent/hub.py", "Writer._first", "Link.go")     # leaves that wait
_PLACES = [     # the innermost frame in which one of these stands says which stage it is
    ("benchmark itself", ("benchmarks/",)),
    ("checksum", ("columns.py:checksum", "is_sound", "Batch.check", "check_sizes")),
    ("fan-out", ("fanout.py", "subscription.py", "queue.py", "policy.py", "receipts.py", "taking.py")),
    ("make frames", ("feed.py", "zstreampub/channels.py", "wire.py:answer")),
    ("send", ("Link.send", "Link._put", "Link._gather", "Link._flush", "Link._write", "Link._sent", "Router.send",
              "Outbound.send", "Lane.send", "Connection.send", "frame_head", "Transport.send", "_look_again",
              "Socket.send")),
    ("receive, unpack", ("zmtp/", "transport.py", "wire.py", "lane.py", "client/channels.py", "client/connection.py")),
    ("read the log", ("stores/reading.py", "stores/chunk.py", "Environment.read", "LmdbStore.read", "Run.batch")),
    ("LMDB: put, pwrite, fdatasync", ("disk/environment.py", "Writer._write_log", "stores/writer.py", "Run.pack")),
    ("accept a publish", ("requests.py", "intake.py", "publishing.py", "broker.py", "gather.py", "stores/")),
    ("decode", ("unpack_column", "_are_alike", "_alike", "unpack_payload", "Batch.payloads", "Batch.messages")),
    ("pack", ("payload.py", "message.py", "client/entries.py", "codecs.py", "columns.py")),
    ("client's books", ("client/",)),
]
_ELSEWHERE = "switches, timers, the rest"


def threads_of(pid):
    """Return ``{thread id: (name, processor seconds, context switches)}`` of a process."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        used_ns = int((task / "schedstat").read_text().split()[0])
        switches = sum(int(line.split()[1]) for line in (task / "status").read_text().splitlines()
                       if "ctxt_switches" in line)
        found[int(task.name)] = name, used_ns / 1e9, switches
    return found


@contextmanager
def counting(pid, _):
    """Yield a Counter that has, at the end, the system calls of a process by name."""
    with _tool("perf", "stat", "-x", ",", "-e", "syscalls:sys_enter_*", "-p", str(pid)) as said:
        calls = Counter()
        yield calls
    for line in said.text.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[0].isdigit() and int(fields[0]):
            calls[fields[2].removeprefix("syscalls:sys_enter_")] += int(fields[0])


@contextmanager
def sampling_kinds(pid, folder):
    """Yield a Counter that has, at the end, perf's samples of what the processor did: in the kernel and in C."""
    file = f"{folder}/perf-{pid}"
    with _tool("perf", "record", "-g", "-F", str(HERTZ), "-o", file, "-p", str(pid)):
        kinds = Counter()
        yield kinds
    text = subprocess.run(["perf", "script", "-i", file, "-F", "comm,tid,ip,sym,dso"], capture_output=True, text=True)
    for sample in text.stdout.split("\n\n"):
        frames = [line.strip().partition(" ")[2] for line in sample.strip().splitlines()[1:]]
        if frames:
            kinds[kind_of(frames)] += 1


@contextmanager
def sampling_stages(pid, folder):
    """Yield a Counter that has, at the end, py-spy's samples by thread and stage, those of idle threads left out."""
    file = f"{folder}/spy-{pid}"
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "py-spy"
    with _tool(spy, "record", "-p", str(pid), "-r", str(HERTZ), "-d", "600", "-t", "-F", "-f", "raw", "-o", file):
        stages = Counter()
        yield stages
    for line in Path(file).read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        if frames and not any(idle in frames[-1] for idle in _IDLE):
            stages["hub" if "Main" in thread else "other threads", stage_of(frames)] += int(count)


def kind_of(frames):
    """Return what a C stack of perf, innermost first, is about."""
    symbols = [frame.partition(" (")[0].partition("+0x")[0] for frame in frames]
    library = frames[0].rpartition(" (")[2].rstrip(")").rpartition("/")[2]
    calls = [one.removeprefix("__x64_sys_") for one in symbols if one.startswith("__x64_sys_")]
    if any("page_fault" in one for one in symbols):
        return "page faults"
    if calls:
        return f"system call {calls[-1]}"
    if library.startswith("[") or not library:
        return "kernel, other"
    if "mem" in symbols[0] and library.startswith("libc"):
        return "copying (memmove)" if "memmove" in symbols[0] else "comparing (memcmp)"
    return library.partition(".")[0].partition("-")[0]


def stage_of(frames):
    """Return which stage a Python stack of py-spy, outermost first, is in."""
    for frame in reversed(frames):
        function, _, where = frame.partition(" (")
        file = where.partition(":")[0]
        named = f"{file}:{function} {function}"
        for stage, places in _PLACES:
            if any(place in named for place in places):
                return stage
    return _ELSEWHERE


class _Said:
    text = ""


@contextmanager
def _tool(name, *arguments):
    """Run a tool beside what is done meanwhile; it is interrupted at the end, as by ctrl-C."""
    said = _Said()
    try:
        tool = subprocess.Popen([name, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError:
        raise Missing(f"there is no {Path(name).name}: sudo apt-get install linux-perf; pip install py-spy") from None
    try:
        time.sleep(_ATTACH_S)
        if tool.poll() is not None:
            raise Missing(f"{Path(name).name} does not run (as root?): {tool.stdout.read().strip()[-300:]}")
        yield said
    finally:
        if tool.poll() is None:
            tool.send_signal(signal.SIGINT)
        said.text = tool.communicate()[0]
