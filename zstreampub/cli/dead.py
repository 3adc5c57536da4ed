"""``zstreampub dead``: the dead letters of a consumer."""

import click

from . import exits
from .nouns import noun
from .options import Whole, client_options, command, connected, format_option, option
from .screen import Out, line_of, note, show_rows

COLUMNS = ["offset", "reason", "deliveries", "topic", "of", "key", "error", "payload"]
_offsets = click.argument("offsets", nargs=-1, type=Whole(0), metavar="[OFFSET]...")
_all_option = option("--all", "everything", is_flag=True, help="All of them, instead of OFFSETs.")


@noun("dead", "  zstreampub dead billing\n"
              "  zstreampub dead redrive billing --all\n"
              "  zstreampub dead purge billing 1234 1240", "list")
def dead():
    """List, show, redrive and purge dead letters.

    'zstreampub dead NAME' lists those of the consumer NAME. They are messages of the topic $dead.NAME: 'subscribe'
    reads that too, with those that were redriven or purged since. ZSTREAMPUB_CONFIG, ZSTREAMPUB_ADDRESS and the
    like are in the --help of each command.
    """


@command("  zstreampub dead list billing --json | jq 'select(.headers[\"dead-reason\"] == \"rejected\")'", name="list")
@click.argument("name")
@option("--first", type=Whole(0), metavar="OFFSET", help="Begin at this offset of a dead letter.")
@option("--limit", type=Whole(1), default=100, metavar="N", help="Show at most N.")
@option("--json", "as_json", is_flag=True, help="JSON lines also on a terminal.")
@client_options
def list_(name, first, limit, as_json, address, timeout_s):
    """List the dead letters of the consumer NAME.

    Why, after how many deliveries, and what each was. OFFSET is the dead letter's own, by which show, redrive and
    purge take it; 'of' is the offset of the original.
    """
    with connected(address, timeout_s) as client:
        found = client.dead(name, first=first, limit=limit + 1)
    rows = found[:limit] if as_json or not Out().is_terminal else [_row(one) for one in found[:limit]]
    show_rows(rows, COLUMNS, as_json, f"{name} has no dead letters")
    if len(found) > limit:
        note(f"there are more: --first {found[limit]['offset']}")


@command("  zstreampub dead show billing 1234 --format payload")
@click.argument("name")
@click.argument("offsets", nargs=-1, required=True, type=Whole(0), metavar="OFFSET...")
@format_option
@client_options
def show(name, offsets, format, address, timeout_s):
    """Print dead letters in full.

    As 'subscribe' prints messages. Exit code 1 if one of them is none.
    """
    from ..message import Message

    out = Out()
    text_of, code = line_of(format, out.is_terminal), exits.OK
    with connected(address, timeout_s) as client:
        for offset in offsets:
            found = client.dead(name, first=offset, limit=1)
            if found and found[0]["offset"] == offset:
                out.write(text_of(Message.of_map(found[0])))
            else:
                note(f"there is no dead letter of {name} at offset {offset}")
                code = exits.REFUSED
    out.flush()
    return code


@command("  zstreampub dead redrive billing 1234 1240 --topic orders.again")
@click.argument("name")
@_offsets
@_all_option
@option("--topic", metavar="TOPIC", help="Publish them there. Default: the topic that each came from.")
@client_options
def redrive(name, offsets, everything, topic, address, timeout_s):
    """Publish dead letters anew, and print how many.

    With payload, key and headers of the original. They are new messages for everybody who reads that topic. Each
    leaves the dead letters as it is published.
    """
    offsets = _which(offsets, everything)
    with connected(address, timeout_s) as client:
        count = client.redrive(name, offsets=offsets, topic=topic)
    return _tell(name, count, offsets)


@command("  zstreampub dead purge billing --all")
@click.argument("name")
@_offsets
@_all_option
@client_options
def purge(name, offsets, everything, address, timeout_s):
    """Give up dead letters, and print how many. They stay in the topic $dead.NAME until retention removes them."""
    offsets = _which(offsets, everything)
    with connected(address, timeout_s) as client:
        count = client.purge(name, offsets=offsets)
    return _tell(name, count, offsets)


for _command in (list_, show, redrive, purge):
    dead.add_command(_command)


def _which(offsets, everything):
    if bool(offsets) == everything:
        raise click.UsageError("Give OFFSETs, or --all.")
    return None if everything else list(offsets)


def _tell(name, count, offsets):
    """Print how many it were; return the exit code, 1 if there were not as many as were named."""
    out = Out()
    out.write(str(count))
    out.flush()
    missing = 0 if offsets is None else len(set(offsets)) - count
    if missing:
        note(f"{missing} of the offsets {'is' if missing == 1 else 'are'} no dead letter of {name}")
    return exits.REFUSED if missing else exits.OK


def _row(letter):
    headers = letter.get("headers") or {}
    return {"offset": letter["offset"], "reason": headers.get("dead-reason"),
            "deliveries": headers.get("dead-deliveries"), "topic": headers.get("dead-topic"),
            "of": headers.get("dead-offset"), "key": letter.get("key"), "error": headers.get("dead-error"),
            "payload": letter["payload"]}
