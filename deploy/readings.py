"""Prints readings of this machine, every second, as JSON lines of ``topic`` and ``payload``.

The quickstart pipes them into ``zstreampub publish --json '{topic}' --payload-field payload``.
"""

import json
import re
import sys
import time

import psutil


def main(interval_s=1.0):
    """Print until nobody reads; each round starts *interval_s* after the one before."""
    before = after = None
    due = time.monotonic()
    while True:
        before, after = after, rates()
        for topic, value, unit in [*levels(), *changes(before, after)]:
            print(json.dumps({"topic": topic, "payload": {"value": value, "unit": unit}}))
        sys.stdout.flush()
        due += interval_s
        time.sleep(max(0.0, due - time.monotonic()))


def levels():
    """Yield ``(topic, value, unit)`` of what has a value at one moment."""
    for number, cpu in enumerate(psutil.cpu_times_percent(percpu=True)):
        yield f"host.cpu.{number}.user", cpu.user, "percent"
        yield f"host.cpu.{number}.system", cpu.system, "percent"
    memory = psutil.virtual_memory()
    yield "host.memory.used", memory.used, "bytes"
    yield "host.memory.available", memory.available, "bytes"
    disk = psutil.disk_usage("/")
    yield "host.disk.root.used", disk.used, "bytes"
    yield "host.disk.root.free", disk.free, "bytes"
    for minutes, load in zip((1, 5, 15), psutil.getloadavg()):
        yield f"host.load.{minutes}", round(load, 2), "processes"


def rates():
    """Return the counters that only their change makes interesting: ``{topic: (bytes so far, seconds)}``."""
    now, found = time.monotonic(), {}
    for name, card in psutil.net_io_counters(pernic=True).items():
        found[f"host.net.{token(name)}.received"] = card.bytes_recv, now
        found[f"host.net.{token(name)}.sent"] = card.bytes_sent, now
    disks = psutil.disk_io_counters()
    if disks is not None:       # none in some containers
        found["host.disk.all.read"] = disks.read_bytes, now
        found["host.disk.all.written"] = disks.write_bytes, now
    return found


def changes(before, after):
    """Yield ``(topic, value, unit)`` of the counters that were there in both rounds."""
    for topic, (amount, at) in after.items():
        if before and topic in before:
            was, then = before[topic]
            yield topic, round((amount - was) / (at - then)), "bytes/s"


def token(name):
    """Return *name* as one token of a topic: a network card may be called ``eth0.100``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.stderr.close()      # or Python complains that stdout cannot be flushed
