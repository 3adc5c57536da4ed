"""Where output goes: stdout without ever holding the hub, tables, and notes for people on stderr.

A pager that is not read for an hour must not stop the heartbeats, so a write to a
pipe or terminal waits for room the gevent way, and in pieces that a pipe with any
room takes whole.
"""

import errno
import os
import select
import stat
import sys

from .encode import Lines, message_json, payload_text, safe, to_json
from .exits import ReaderGone

_PIECE = select.PIPE_BUF
OFFSETS = {"offset", "of", "first", "next", "position", "cursor", "floor"}      # shown as they are typed


class Out:
    """Bytes to stdout. ``write`` collects, ``flush`` sends; raises ReaderGone when nobody reads any more."""

    def __init__(self, fd=None):
        self._fd = sys.stdout.fileno() if fd is None else fd
        self._may_block = not stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._parts = []
        self.is_terminal = os.isatty(self._fd)

    def write(self, line):
        self._parts.append(line if isinstance(line, bytes) else line.encode(errors="backslashreplace"))
        self._parts.append(b"\n")

    def flush(self):
        rest = memoryview(b"".join(self._parts))
        self._parts.clear()
        while rest:
            rest = rest[self._send(rest[:_PIECE] if self._may_block else rest):]

    def _send(self, piece):
        from gevent.socket import wait_write
        try:
            if self._may_block:
                wait_write(self._fd)
            return os.write(self._fd, piece)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET):
                raise ReaderGone from None
            raise


def wants_colour(terminal):
    """Tell whether people see stdout, and on something that shows colours (rich knows NO_COLOR and TERM)."""
    if not terminal:
        return False
    from rich.console import Console
    console = Console()
    return console.is_terminal and not console.no_color and console.color_system is not None


def line_of(form, terminal):
    """Return what makes a line of a message for ``--format`` *form*."""
    if form == "auto":
        form = "text" if terminal else "json"
    if form == "json":
        return message_json
    if form == "payload":
        return lambda message: payload_text(message.payload)
    return Lines(wants_colour(terminal))


def show_message(message, form):
    """Print one message."""
    out = Out()
    out.write(line_of(form, out.is_terminal)(message))
    out.flush()


def note(text):
    """Say *text* to people on stderr."""
    sys.stderr.write(f"zstreampub: {text}\n")
    sys.stderr.flush()


def show_rows(rows, columns, as_json, empty):
    """Show maps as a table to people, as JSON lines to programs.

    *columns* come first and in this order; what else the rows have follows, in a table only what is not 0 everywhere.
    """
    out = Out()
    if as_json or not out.is_terminal:
        for row in rows:
            out.write(to_json(row))
        out.flush()
    elif not rows:
        note(empty)
    else:
        others = {name for row in rows for name, value in row.items() if value} - set(columns)
        _print_table(rows, [*columns, *sorted(others)])


def show_pairs(pairs, what, empty):
    """Show ``(name, value)`` pairs to people, the names under the heading *what*."""
    show_rows([{what: name, "value": cell(value, name)} for name, value in pairs], [what, "value"], False, empty)


def _print_table(rows, columns):
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if _is_number(rows[0].get(name)) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(row.get(name), name)) for name in columns))
    console = Console()
    whole = console.options.update(width=10_000)
    if len(columns) > 4 and console.measure(table, options=whole).maximum > console.width:     # few columns fold well
        _print_records(console, rows, columns)
    else:
        console.print(table)


def _print_records(console, rows, columns):
    """Print a line for each field: what is wider than the terminal cannot be read as a table."""
    from rich.table import Table
    from rich.text import Text

    for number, row in enumerate(rows):
        if number:
            console.print()
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name in columns:
            table.add_row(name, Text(cell(row.get(name), name)))
        console.print(table)


def cell(value, name=""):
    """Return *value* as a person reads it in a table, in a column or row of this *name*."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if name.rpartition(".")[2] in OFFSETS else f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    if isinstance(value, (list, tuple)):
        return " ".join(map(safe, value))
    return safe(value)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)
