"""``zstreampub subscribe``: the messages of some topics, as lines."""

import sys

import click

from . import encode
from .options import BYTES, SECONDS, Parsed, client_options, command, connected, option
from .screen import Out, note, wants_colour
from .units import parse_start, parse_until

_LOOK_S = 0.25


@command("  zstreampub subscribe 'flights.SFO.>' --start earliest\n"
         "  zstreampub subscribe 'orders.>' --start last:10 --until end | jq .payload")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@option("--start", type=Parsed("start", parse_start), default="new", metavar="WHERE",
        help="new, earliest, last (newest of each topic), last:N, an offset, or time:2024-05-01T12:00 "
             "(or time:SECONDS since the epoch).")
@option("--until", type=Parsed("until", parse_until), metavar="end|OFFSET",
        help="Stop before this offset, or at what is the log's end now.")
@option("--epoch", metavar="TEXT", help="With an offset: refuse if the log is another one.")
@option("--count", type=click.IntRange(1), metavar="N", help="Stop after N messages.")
@option("--policy", metavar="NAME",
        help="What a full queue on the server does: spill, drop, drop_oldest, conflate, disconnect, block. "
             "Default: what the server has set.")
@option("--max-messages", type=click.IntRange(1), help="Bound of that queue in messages.")
@option("--max-bytes", type=BYTES, help="Bound of that queue in bytes.")
@option("--block-timeout-s", type=SECONDS, help="With block: longest that a publisher is held.")
@option("--name", metavar="TEXT", help="A name to show in 'zstreampub subscriptions'.")
@option("--format", type=click.Choice(["auto", "json", "text", "payload"]), default="auto",
        help="auto: text on a terminal, JSON lines in a pipe. payload: only the payload, text and bytes as they are.")
@client_options
def subscribe(patterns, address, timeout_s, count, **options):
    """Print the messages of topics that match any PATTERN (default: all), now and as they come.

    '*' stands for one token of a topic, '>' at the end for the rest. In JSON lines, bytes that
    are UTF-8 become text and others {"base64": ...}; NaN and infinities become texts. Gaps
    and lost connections are told on stderr; after a lost connection it goes on where it was.
    """
    import gevent

    out = Out()
    line_of = _line_of(options.pop("format"), out.is_terminal)
    with connected(address, timeout_s) as client:
        controls = _Controls(greet=options["until"] is None and sys.stderr.isatty())
        stream = client.subscribe(list(patterns) or ">", on_gap=_tell_gap, on_control=controls.tell, **options)
        watch = gevent.spawn(_tell_losses, client)
        try:
            _print(stream, out, line_of, count)
        finally:
            watch.kill()
            stream.close()


def _print(stream, out, line_of, count):
    """Print until the stream ends or *count* messages are out; what came together is written together."""
    left = count if count is not None else float("inf")
    for batch in stream.batches():
        messages = batch.messages()
        for message in messages[:left] if count is not None else messages:
            out.write(line_of(message))
        out.flush()
        left -= len(messages)
        if left <= 0:
            return


def _line_of(form, terminal):
    if form == "auto":
        form = "text" if terminal else "json"
    if form == "json":
        return encode.message_json
    if form == "payload":
        return lambda message: encode.payload_text(message.payload)
    return encode.Lines(wants_colour(terminal))


def _tell_gap(gap):
    count = "an unknown number of" if gap["count"] is None else f"{gap['count']:,}"
    note(f"gap: {count} messages in [{gap['first']}, {gap['next']}) will not come ({gap['why']})")


def _tell_losses(client):
    """Say when the connection is gone: until there is a new one, people would only see silence."""
    import gevent
    was = True
    while True:
        if was and not client.is_connected:
            note("the connection is lost; connecting again ...")
        was = client.is_connected
        gevent.sleep(_LOOK_S)


class _Controls:
    """Tells people where the stream starts, and when it goes on after a lost connection."""

    def __init__(self, greet):
        self._greet = greet
        self._greeted = False

    def tell(self, control):
        if control.get("control") != "subscribed":
            return
        if self._greeted:
            note(f"connected again; going on at offset {control['offset']}")
        elif self._greet:
            note(f"subscribed at offset {control['offset']}, epoch {control['epoch']}; ctrl-C ends")
        self._greeted = True
