"""The settings of a durable consumer as flags: the same for every command that makes or changes one."""

import click

from .options import SECONDS, Parsed, option
from .units import parse_durations, parse_start

START = Parsed("start", parse_start)
_DURATIONS = Parsed("durations", parse_durations)

_BIRTH = [
    option("--start", type=START, metavar="WHERE",
           help="Where a new consumer begins: new (default), earliest, last:N, an offset, time:2024-05-01T12:00, "
                "or time:-10m."),
    option("--mode", type=click.Choice(["shared", "exclusive", "key_ordered"]), show_default=False,
           help="shared (default): each message to whoever has room; exclusive: one member works, the others stand "
                "by; key_ordered: messages with one key one after the other."),
]
_ANY_TIME = [
    option("--ack-wait-s", type=SECONDS, help="A message that is not acknowledged is delivered again after this long."),
    option("--backoff-s", type=_DURATIONS, metavar="1s,10s,1m",
           help="Wait so long before the second, third, ... delivery; the last one repeats. Default: not at all."),
    option("--jitter", type=float, metavar="SHARE", help="Share of the backoff that is left to chance, 0 to 1."),
    option("--max-deliveries", type=int, metavar="N",
           help="After so many deliveries a message is a dead letter; 0: never."),
    option("--max-pending", type=int, metavar="N", help="Most messages that are delivered and not acknowledged."),
    option("--retention", type=click.Choice(["keep", "gap"]),
           help="keep (default): retention spares what is not acknowledged; gap: it does not, and a gap tells."),
    option("--expired", type=click.Choice(["skip", "dead"]),
           help="A message whose time to live is over: skip (default), or make it a dead letter."),
    option("--max-dead", type=int, metavar="N", help="So many dead letters pause the consumer."),
    option("--inactive-s", type=SECONDS, help="Delete the consumer after so long without members and calls."),
]


def birth_options(function):
    """Add the settings that hold for the life of a consumer, and the others."""
    return _add(_BIRTH + _ANY_TIME, function)


def change_options(function):
    """Add the settings that can be changed."""
    return _add(_ANY_TIME, function)


def given(options):
    """Return what of *options* was given: only that is asked for, and compared with what a consumer has."""
    return {name: value for name, value in options.items() if value is not None}


def _add(options, function):
    for decorate in reversed(options):
        function = decorate(function)
    return function
