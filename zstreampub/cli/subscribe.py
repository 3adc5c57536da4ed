"""``zstreampub subscribe``: the messages of some topics, as lines."""

import sys
from contextlib import closing

import click

from .filtering import FILTER
from .options import (
    BYTES,
    SECONDS,
    Parsed,
    Whole,
    client_options,
    command,
    connected,
    end_on_sigterm,
    format_option,
    option,
)
from .screen import Out, line_of, note
from .state import NoState, State
from .telling import losses_told, tell_gap
from .units import parse_start, parse_until


@command("  zstreampub subscribe 'flights.SFO.>' --start earliest\n"
         "  zstreampub subscribe 'orders.>' --start last:10 --until end | jq .payload\n"
         "  zstreampub subscribe 'orders.>' --start earliest --state orders.state >> orders.jsonl\n"
         "  zstreampub subscribe 'orders.>' --filter 'payload.total >= 100' --filter 'headers.region = eu'")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@option("--start", type=Parsed("start", parse_start), default="new", metavar="WHERE",
        help="new, earliest, last (newest of each topic), last:N, an offset, time:2024-05-01T12:00 "
             "(or time:SECONDS since the epoch), or time:-10m (ten minutes ago, by this machine's clock).")
@option("--until", type=Parsed("until", parse_until), metavar="end|OFFSET",
        help="Stop before this offset, or at what is the log's end now.")
@option("--epoch", metavar="TEXT", help="With an offset: refuse if the log is another one.")
@option("--state", metavar="FILE", type=click.Path(dir_okay=False),
        help="Keep in FILE where to resume; where FILE exists, begin there and not at --start. At least once: what "
             "was printed in the last half second before a crash is printed again.")
@option("--count", type=Whole(1), metavar="N", help="Stop after N messages.")
@option("--policy", metavar="NAME",
        help="What a full queue on the server does: spill, drop, drop_oldest, conflate, disconnect, block. "
             "Default: what the server has set.")
@option("--max-messages", type=Whole(1), help="Bound of that queue in messages.")
@option("--max-bytes", type=BYTES, help="Bound of that queue in bytes.")
@option("--block-timeout-s", type=SECONDS, help="With block: longest that a publisher is held.")
@option("--filter", "filters", type=FILTER, multiple=True, metavar="FILTER",
        help="Only what passes crosses the network: 'FIELD OPERATOR VALUE', such as 'payload.total >= 10' "
             "(operators: = != < <= > >=; fields: payload.NAME, headers.NAME, key, topic, ...), or a filter in JSON, "
             'such as \'{"min_period": 0.1, "by": "payload.at", "per": "key"}\' or \'{"max_size": 1000}\'. '
             "Repeatable: all must hold, in this order. A payload that was published with a content type has no "
             "fields. docs/filters.rst has all words.")
@option("--name", metavar="TEXT", help="A name to show in 'zstreampub subscriptions'.")
@format_option
@client_options
def subscribe(patterns, address, timeout_s, count, format, state, **options):
    """Print the messages of topics that match any PATTERN (default: all), now and as they come.

    '*' stands for one token of a topic, '>' at the end for the rest. In JSON lines, bytes that
    are UTF-8 become text and others {"base64": ...}; NaN and infinities become texts. Gaps
    and lost connections are told on stderr; after a lost connection it goes on where it was.
    """
    out = Out()
    text_of = line_of(format, out.is_terminal)
    if not options["filters"]:
        del options["filters"]
    state = _begin(state, options)
    with connected(address, timeout_s) as client, state.kept():
        end_on_sigterm()
        controls = _Controls(state, greet=options["until"] is None and sys.stderr.isatty())
        stream = client.subscribe(list(patterns) or ">", on_gap=tell_gap, on_control=controls.tell, **options)
        with losses_told(client), closing(stream):
            _print(stream, out, text_of, count, state)


def _begin(path, options):
    """Return the state that is kept at *path*, and begin there if it says where."""
    if path is None:
        return NoState()
    if options["epoch"] is not None:
        raise click.UsageError("--state keeps the epoch too; leave --epoch out.")
    state = State(path)
    if state.offset is not None:
        options.update(start=state.offset, epoch=state.epoch)
    return state


def _print(stream, out, text_of, count, state):
    """Print until the stream ends or *count* messages are out; what came together is written together."""
    left = count if count is not None else float("inf")
    for batch in stream.batches():
        messages = batch.messages()
        shown = messages[:left] if count is not None else messages
        for message in shown:
            out.write(text_of(message))
        out.flush()
        state.reach(batch.next if len(shown) == len(messages) else shown[-1].offset + 1)
        left -= len(messages)
        if left <= 0:
            return


class _Controls:
    """Tells people where the stream starts, and when it goes on after a lost connection; and *state* where it is."""

    def __init__(self, state, greet):
        self._state = state
        self._greet = greet
        self._greeted = False

    def tell(self, control):
        self._state.see(control)
        if control.get("control") != "subscribed":
            return
        if self._greeted:
            note(f"connected again; going on at offset {control['offset']}")
        elif self._greet:
            note(f"subscribed at offset {control['offset']}, epoch {control['epoch']}; ctrl-C ends")
        self._greeted = True
