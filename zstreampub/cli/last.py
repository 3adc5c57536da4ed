"""``zstreampub last``: the newest message of a topic."""

import click

from . import exits
from .options import client_options, command, connected, format_option, option
from .screen import note, show_message


@command("  zstreampub last sensors.hall --key north | jq .payload")
@click.argument("topic")
@option("--key", metavar="KEY", help="The newest of those with this key.")
@format_option
@client_options
def last(topic, key, format, address, timeout_s):
    """Print the newest message of TOPIC as 'subscribe' prints it; exit code 1 if there is none."""
    with connected(address, timeout_s) as client:
        message = client.last(topic, key)
    if message is None:
        note(f"there is no message of {topic!r}{'' if key is None else f' with the key {key!r}'}")
        return exits.REFUSED
    show_message(message, format)
    return exits.OK
