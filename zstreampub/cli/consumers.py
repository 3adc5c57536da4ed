"""``zstreampub consumers``: the durable consumers of a server, to see and to steer."""

from datetime import datetime

import click

from . import exits
from .consumer_options import START, birth_options, change_options, given
from .nouns import noun
from .options import client_options, command, connected, option
from .screen import Out, note, show_pairs, show_rows, to_json
from .stats import flat

COLUMNS = ["consumer", "mode", "members", "lag", "lag_s", "in_flight", "waiting", "dead", "paused"]
_TIMES = ("created", "oldest_unacked.time")
_json_option = option("--json", "as_json", is_flag=True, help="JSON lines also on a terminal.")


@noun("consumers", "  zstreampub consumers\n"
                   "  zstreampub consumers billing\n"
                   "  zstreampub consumers create billing 'orders.>' --start earliest --backoff-s 1s,10s,1m", "show")
def consumers():
    """List, show and steer durable consumers.

    'zstreampub consumers' lists them, 'zstreampub consumers NAME' shows one ('show NAME', for a name that is also
    a command). ZSTREAMPUB_CONFIG, ZSTREAMPUB_ADDRESS and the like are in the --help of each command.
    """


@command("  zstreampub consumers list --json | jq 'select(.lag.seconds > 60).consumer'", name="list")
@_json_option
@client_options
def list_(as_json, address, timeout_s):
    """List all consumers.

    Who works, how far behind they are, how much is in flight, waits to come again, and is dead.
    """
    _list(as_json, address, timeout_s)


def _list(as_json, address, timeout_s):
    with connected(address, timeout_s) as client:
        rows = client.consumers()
    if not as_json and Out().is_terminal:
        rows = [_row(one) for one in rows]
    show_rows(rows, COLUMNS, as_json, "there is no consumer")


@command("  zstreampub consumers show billing")
@click.argument("name", required=False)
@_json_option
@client_options
def show(name, as_json, address, timeout_s):
    """Show all about the consumer NAME.

    Its settings and members, and what is not acknowledged, counted in the log. Without a NAME, list all consumers.
    """
    if name is None:
        return _list(as_json, address, timeout_s)
    with connected(address, timeout_s) as client:
        found = client.consumer(name)
    return _show(found, as_json)


@command("  zstreampub consumers create billing 'orders.*.new' --mode key_ordered --max-deliveries 5")
@click.argument("name")
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN...")
@birth_options
@client_options
def create(name, patterns, address, timeout_s, **settings):
    """Create the consumer NAME.

    It gets the messages of topics that match any PATTERN. Doing it again is fine; with other settings it is refused
    (exit code 1), and told what differs. 'consume' creates, too: this is for a consumer that is to keep messages
    before anybody works.
    """
    with connected(address, timeout_s) as client:
        client.create_consumer(name, list(patterns), **given(settings))


@command("  zstreampub consumers update billing --ack-wait-s 5m --max-deliveries 0")
@click.argument("name")
@change_options
@client_options
def update(name, address, timeout_s, **settings):
    """Change the consumer NAME.

    Settings that are not given stay; new ones count for deliveries from now on.
    """
    if not given(settings):
        raise click.UsageError("Give a setting to change.")
    with connected(address, timeout_s) as client:
        client.update_consumer(name, **given(settings))


@command("  zstreampub consumers delete billing")
@click.argument("name")
@client_options
def delete(name, address, timeout_s):
    """Delete the consumer NAME.

    Its place and what is not acknowledged are forgotten, and its members end. Its dead letters stay in the topic
    $dead.NAME. Exit code 1 if there is no such consumer.
    """
    with connected(address, timeout_s) as client:
        if client.delete_consumer(name):
            return exits.OK
    note(f"there is no consumer {name!r}; 'zstreampub consumers' lists them")
    return exits.REFUSED


@command("  zstreampub consumers seek billing time:-1h")
@click.argument("name")
@click.argument("where", type=START)
@client_options
def seek(name, where, address, timeout_s):
    """Let the consumer NAME go on at WHERE.

    What is delivered and not acknowledged is forgotten. WHERE is new, earliest, last:N, an offset,
    time:2024-05-01T12:00, or time:-10m.
    """
    with connected(address, timeout_s) as client:
        client.seek(name, where)


@command("  zstreampub consumers pause billing")
@click.argument("name")
@client_options
def pause(name, address, timeout_s):
    """Pause the consumer NAME.

    Nothing more is delivered until 'resume'; what is delivered can be acknowledged.
    """
    with connected(address, timeout_s) as client:
        client.pause(name)


@command("  zstreampub consumers resume billing")
@click.argument("name")
@client_options
def resume(name, address, timeout_s):
    """Let the consumer NAME go on.

    After 'pause', or where a flood of dead letters has paused it.
    """
    with connected(address, timeout_s) as client:
        client.resume(name)


for _command in (list_, show, create, update, delete, seek, pause, resume):
    consumers.add_command(_command)


def _row(found):
    """Return the line of one consumer in a table."""
    lag = found.get("lag") or {}
    return {**{name: found.get(name) for name in COLUMNS}, "members": len(found.get("members") or ()),
            "lag": lag.get("messages"), "lag_s": lag.get("seconds"), "paused": found.get("paused") or "",
            "patterns": found.get("patterns")}


def _show(found, as_json):
    out = Out()
    if as_json or not out.is_terminal:
        out.write(to_json(found))
        out.flush()
        return
    found = dict(found)
    members = found.pop("members", [])
    show_pairs([(name, _time(value) if name in _TIMES else value) for name, value in flat(found)], "what", "")
    if members:
        show_rows(members, ["id", "member", "name", "in_flight", "active"], False, "")


def _time(seconds):
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "milliseconds") if seconds else None
