"""What a process writes to its files and when it syncs, recorded through an LD_PRELOAD library."""

import os
import struct
import subprocess
import sys
from pathlib import Path

from tests.need import need_command

SOURCE = Path(__file__).parent / "fault" / "record_writes.c"


def build_recorder(folder):
    """Return the library, made in *folder*."""
    library = folder / "record_writes.so"
    subprocess.run([need_command("gcc"), "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"],
                   check=True)
    return library


def record_run(recorder, program, place, *arguments):
    """Run *program* on the new directory *place*; return what it wrote and synced there.

    As a list of ``(kind, file name, offset, bytes)``: kind w is a write, s one through O_DSYNC, f an fsync.
    """
    place.mkdir()
    recording = place.with_suffix(".recording")
    subprocess.run([sys.executable, "-c", program, str(place), *arguments], check=True, timeout=100, env={
        **os.environ, "PYTHONPATH": os.getcwd(), "LD_PRELOAD": str(recorder),
        "RECORD_BELOW": str(place), "RECORD_TO": str(recording)})
    packed, at, events = recording.read_bytes(), 0, []
    while at < len(packed):
        name = packed[at + 2:at + 2 + packed[at + 1]].decode()
        offset, length = struct.unpack_from("=QI", packed, at + 2 + len(name))
        start = at + 14 + len(name)
        events.append((chr(packed[at]), name, offset, packed[start:start + length]))
        at = start + length
    return events
