"""``zstreampub outbox``: what a program that is gone has left in its outbox, shown or sent."""

import sys
from contextlib import contextmanager
from datetime import datetime

import click

from ..errors import RequestTimeout
from . import exits
from .options import client_options, command, connected, option
from .screen import Out, note, show_rows

_LOOK_S = 0.2


@command("  zstreampub outbox /var/spool/orders\n"
         "  zstreampub outbox /var/spool/orders --send --address tcp://10.0.0.7:4242\n"
         "  zstreampub outbox /var/spool/orders --refused --json | jq -r .error")
@click.argument("path", type=click.Path(exists=True, file_okay=False))
@option("--send", is_flag=True, help="Send what is there to the server, as the program itself would have.")
@option("--refused", is_flag=True, help="List what the server has refused for good, and why.")
@option("--clear-refused", is_flag=True, help="Forget that.")
@option("--json", "as_json", is_flag=True, help="JSON lines also on a terminal.")
@client_options
def outbox(path, send, refused, clear_refused, as_json, address, timeout_s):
    """Show how much is in the outbox in PATH and how old it is, or send it.

    Nobody else may have it open. With --send, exit code 3 if nothing more could be sent for --timeout-s (what is left
    stays there), 1 if something was refused.
    """
    if send + refused + clear_refused > 1:
        raise click.UsageError("--send, --refused and --clear-refused exclude each other.")
    from ..client.outbox.left import check_there, look  # loads gevent and lmdb

    check_there(path)
    if send:
        return _send(path, address, timeout_s)
    if clear_refused:
        with connected(address, timeout_s, outbox=path) as client:
            note(f"{client.outbox.clear_refused():,} forgotten")
        return exits.OK
    left = look(path)
    if refused:
        show_rows([_row(one, as_json) for one in left.refused], ["time", "topic", "messages", "error"], as_json,
                  "nothing was refused")
    else:
        show_rows([{"messages": left.messages, "bytes": left.size_bytes, "age_s": round(left.age_s, 3),
                    "refused": len(left.refused)}], ["messages", "bytes", "age_s", "refused"], as_json, "")
    return exits.OK


def _row(refused, as_json):
    when = refused.time
    if not as_json and Out().is_terminal:
        when = datetime.fromtimestamp(when).astimezone().isoformat(" ", "seconds")
    return {"time": when, "topic": refused.topic, "messages": len(refused.messages),
            "error": f"{type(refused.error).__name__}: {refused.error}"}


def _send(path, address, timeout_s):
    with connected(address, timeout_s, outbox=path) as client, _progress(client.outbox) as tick:
        outbox, refused_before = client.outbox, client.outbox.refused_count
        start = left = outbox.messages
        waited_s = 0.0
        while left:
            try:
                outbox.wait_until_sent(min(_LOOK_S, timeout_s))
            except RequestTimeout:
                waited_s = 0.0 if outbox.messages < left else waited_s + _LOOK_S
                if waited_s >= timeout_s:
                    raise
            left = outbox.messages
            tick(start - left)
        refused = outbox.refused_count - refused_before
    note(f"{start:,} messages sent" + (f"; of {refused:,} publishes refused: see --refused" if refused else ""))
    return exits.REFUSED if refused else exits.OK


@contextmanager
def _progress(outbox):
    """Give ``tick(sent)``, which moves a bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    bar = Progress("sending", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True),
                   transient=True)
    task = bar.add_task("sending", total=outbox.messages)
    with bar:
        yield lambda sent: bar.update(task, completed=sent)
