"""Exit codes, and the one line on stderr for everything that went wrong.

A traceback is shown only with ZSTREAMPUB_TRACEBACK=1.
"""

import os
import sys
import traceback

import click

from ..errors import ConnectionLost, ConsumerConflict, StoreError, UnknownConsumer, ZStreamPubError
from . import environment

OK, REFUSED, USAGE, UNREACHABLE, STORE, BUG, INTERRUPTED, READER_GONE, TERMINATED = 0, 1, 2, 3, 4, 70, 130, 141, 143

HELP = """\b
Exit codes:
  0    it went well; serve: it was asked to stop, and drained
  1    refused by the server, or a part failed (skipped lines, failed commands)
  2    wrong usage, also in the configuration file
  3    the server cannot be reached, or did not answer in time
  4    the store cannot do it: full, locked, corrupt
  70   a fault of zstreampub itself; ZSTREAMPUB_TRACEBACK=1 shows where
  130  ctrl-C
  141  whoever read the output has left (as in 'zstreampub subscribe | head')
  143  SIGTERM
"""


_HINTS: dict[type, str] = {      # what the server says in terms of methods, in terms of commands
    UnknownConsumer: " 'zstreampub consumers' lists them, 'zstreampub consumers create' makes one.",
    ConsumerConflict: " 'zstreampub consumers NAME' shows it, 'zstreampub consumers update NAME' changes it.",
}


class ReaderGone(Exception):
    """Nobody reads stdout any more."""


class Failed(Exception):
    """The command has said what is to be said; it ends with exit code ``args[0]``."""


class Program(click.Group):
    """A group of commands that turns every error into one line and an exit code."""

    def invoke(self, ctx):
        environment.forget_message()
        environment.warn(self)
        return super().invoke(ctx)

    def main(self, args=None, prog_name=None, **extra):     # type: ignore[override]
        extra["standalone_mode"] = False
        try:
            code = super().main(args, prog_name or "zstreampub", **extra)
        except Exception as error:      # whatever it is, people get one line
            code = report(error)
        sys.exit(code if isinstance(code, int) else OK)


def report(error):
    """Say on stderr in one line what *error* is about, and return the exit code for it."""
    if os.environ.get("ZSTREAMPUB_TRACEBACK"):
        traceback.print_exception(error)
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, Failed):
        return error.args[0]
    if isinstance(error, click.Abort):
        return INTERRUPTED
    if isinstance(error, ReaderGone):
        # Python flushes stdout at exit, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    code, sentence = explain(error)
    click.echo(f"zstreampub: {' '.join(sentence.split())}", err=True)
    return code


def explain(error):
    """Return the exit code and the sentence for an error."""
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "zstreampub"
        return USAGE, f"{error.format_message()} ('{path} --help' shows how.)"
    if isinstance(error, click.ClickException):
        return USAGE, error.format_message()
    if isinstance(error, ConnectionLost):
        return UNREACHABLE, str(error)
    if isinstance(error, StoreError):
        return STORE, str(error)
    if isinstance(error, ZStreamPubError):
        return REFUSED, f"{error}{_HINTS.get(type(error), '')} ({type(error).__name__})"
    if isinstance(error, OSError):
        return REFUSED, str(error)
    return BUG, f"a fault of zstreampub itself, {type(error).__name__}: {error} (ZSTREAMPUB_TRACEBACK=1 shows where)"
