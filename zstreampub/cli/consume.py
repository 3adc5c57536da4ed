"""``zstreampub consume``: work on the messages of a durable consumer, each by a command, or print them."""

import os
import shutil
import socket
import sys
from collections import deque
from contextlib import closing

import click

from ..errors import RequestTimeout, StaleDelivery
from . import exits
from .consumer_options import birth_options, given
from .encode import safe
from .options import SECONDS, Whole, client_options, command, connected, end_on_sigterm, format_option, option
from .screen import Out, line_of, note
from .telling import losses_told, tell_gap


class WithCommand(click.Command):
    """A command whose arguments after ``--`` are another command, in ``ctx.obj``."""

    def parse_args(self, ctx, args):
        ctx.obj = None
        if "--" in args:
            at = args.index("--")
            args, ctx.obj = args[:at], args[at + 1:]
            if not ctx.obj:
                raise click.UsageError("Give a command after --.", ctx)
        return super().parse_args(ctx, args)


@command("  zstreampub consume billing 'orders.*.new' -- ./bill.sh\n"
         "  zstreampub consume thumbnails 'images.>' --jobs 8 --job-timeout-s 1m --backoff-s 1s,1m -- \\\n"
         "      sh -c 'convert - -resize 64 thumbs/$ZSTREAMPUB_OFFSET.png'\n"
         "  zstreampub consume nightly --until-idle-s 5s --format payload >> nightly.txt", cls=WithCommand)
@click.argument("name")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]... [-- COMMAND...]")
@option("--jobs", type=Whole(1), default=1, metavar="N", help="Run up to N commands at a time.")
@option("--job-timeout-s", type=SECONDS, metavar="SECONDS",
        help="Longest that a command may run; then it is killed, and the message given back. Default: no limit.")
@option("--reject-on", type=Whole(1, 255), multiple=True, default=[100], metavar="STATUS",
        help="Exit status that means: do not try this message again, make it a dead letter; repeatable.")
@option("--count", type=Whole(1), metavar="N", help="Stop after N messages.")
@option("--until-idle-s", type=SECONDS, metavar="SECONDS",
        help="Stop when no message has come for so long and no command is running.")
@option("--member", metavar="TEXT", help="Who works here, for 'zstreampub consumers NAME'. Default: host and process.")
@option("--max-in-flight", type=Whole(1), metavar="N",
        help="Most messages here that are not acknowledged. Default: as many as --jobs; where messages are printed, "
             "what the server has set.")
@birth_options
@format_option
@client_options
@click.pass_context
def consume(ctx, name, patterns, address, timeout_s, jobs, job_timeout_s, reject_on, count, until_idle_s, format,
            **options):
    """Join the durable consumer NAME, and run COMMAND for each message; without one, print the messages.

    With PATTERNs (and any settings) the consumer is created if there is none. Several 'consume NAME', on any machine,
    share the messages. COMMAND gets the payload on stdin (text and bytes as they are, anything else as JSON) and
    ZSTREAMPUB_TOPIC, _OFFSET, _TIME, _KEY, _ID, _DELIVERY (1 the first time), _CONSUMER, _ADDRESS, and
    ZSTREAMPUB_HEADER_NAME for each header in its environment; one word with blanks in it is run by sh.

    Exit status 0 acknowledges the message. A status of --reject-on makes it a dead letter. 126 and 127 (the command
    cannot be run) end 'consume' and give the message back. Any other, or a signal: it is delivered again, after the
    backoff, to whoever is free. A command that takes long keeps its message. On ctrl-C and SIGTERM the commands are
    killed with all that they started, and their messages given back. A printed message is acknowledged when it was
    written. Exit code 1: a command has failed.
    """
    from .jobs import Jobs, Shell  # loads gevent

    words = ctx.obj
    for pattern in () if words else patterns:
        if len(pattern.split()) > 1 or ("/" in pattern and (pattern[0] == "." or shutil.which(pattern))):
            raise click.UsageError(f"{pattern!r} is no pattern. A command comes after --: consume {name} PATTERN -- "
                                   f"{pattern}")
    if words and " " not in words[0] and shutil.which(words[0]) is None:
        raise click.UsageError(f"There is no command {words[0]!r} here.")
    most = options["max_in_flight"] or (jobs if words else None)
    if count is not None:
        most = min(most or count, count)        # more would only be given back, as delivered once
    options = {**options, "max_in_flight": most, "member": options["member"] or f"{socket.gethostname()}:{os.getpid()}"}
    greet = count is None and until_idle_s is None and sys.stderr.isatty()
    controls = _Controls(name, patterns, words, greet)
    with connected(address, timeout_s) as client:
        end_on_sigterm()
        consumption = client.consume(list(patterns) or None, name, on_gap=tell_gap, on_control=controls.tell,
                                     **given(options))
        with losses_told(client), closing(consumption):
            if not words:
                return _print(consumption, format, count, until_idle_s)
            shell = Shell(words, name, address, reject_on, job_timeout_s, consumption.ack_wait_s)
            return _work(Jobs(shell.work, jobs, note), consumption, count, until_idle_s)


def _work(jobs, consumption, count, until_idle_s):
    from .jobs import CannotRun

    try:
        jobs.run(consumption, count, until_idle_s)
    except CannotRun as error:
        note(f"{error} The message was given back.")
        return exits.REFUSED
    finally:
        jobs.stop()
    return exits.REFUSED if jobs.failed else exits.OK


def _print(consumption, format, count, until_idle_s):
    """Print what comes; acknowledge each message when it is written, and wait for that at the end."""
    out = Out()
    text_of, answers = line_of(format, out.is_terminal), deque()
    while count is None or count > 0:
        try:
            delivery = consumption.get(until_idle_s)
        except RequestTimeout:
            break
        if delivery is None:
            break
        out.write(text_of(delivery))
        out.flush()
        answers.append((delivery, delivery.ack()))
        count = None if count is None else count - 1
        while answers and answers[0][1].ready():
            _check(*answers.popleft())
    for answer in answers:
        _check(*answer)
    return exits.OK


def _check(delivery, answer):
    try:
        answer.get()
    except StaleDelivery:
        note(f"message {delivery.offset} was printed, but its acknowledgement came too late: it comes again")


class _Controls:
    """Tells people what was joined and is done with its messages, and what becomes of the stream."""

    def __init__(self, name, patterns, words, greet):
        what = f"{name} ({', '.join(map(safe, patterns))})" if patterns else name
        done = f"{safe(words[0])} is run for each message" if words else "a message is acknowledged when it is printed"
        self._greeting = f"joined {what}; {done}; ctrl-C ends" if greet else None
        self._greeted = False

    def tell(self, control):
        why = control.get("paused") or control.get("why")
        if control.get("control") == "subscribed":
            greeting = "connected again" if self._greeted else self._greeting
            self._greeted = True
            if greeting:
                note(greeting)
            if control.get("paused"):
                note(f"the consumer is paused: {why}")
        elif control.get("control") == "paused":
            note(f"the consumer is paused: {why}")
        elif control.get("control") == "resumed":
            note("the consumer goes on")
