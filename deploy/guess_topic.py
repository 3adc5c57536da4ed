"""Prints how ``zstreampub publish`` should take a file, one argument a line: looks at the first line only."""

import gzip
import json
import re
import sys
from pathlib import Path


def arguments_for(path):
    """Return ``--json TEMPLATE`` for lines of JSON maps, else ``--lines TOPIC``."""
    try:
        first = json.loads(first_line(path))
    except ValueError:
        first = None
    if not isinstance(first, dict):
        return ["--lines", f"lines.{token(Path(path).name)}"]
    if {"origin", "destination"} <= set(first):
        return ["--json", "flights.{origin}.{destination}"]
    for field, value in first.items():
        if isinstance(value, str) and token(value) == value and re.fullmatch(r"[^.{}]+", field):
            return ["--json", f"lines.{{{field}}}"]
    return ["--json", f"lines.{token(Path(path).name)}"]


def first_line(path):
    with open(path, "rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    with (gzip.open if is_gzip else open)(path, "rb") as file:
        return file.readline(1 << 20)


def token(text):
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text) or "_"


if __name__ == "__main__":
    print(*arguments_for(sys.argv[1]), sep="\n")
