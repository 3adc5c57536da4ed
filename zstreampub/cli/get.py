"""``zstreampub get``: the message at an offset."""

import click

from . import exits
from .options import Whole, client_options, command, connected, format_option
from .screen import note, show_message


@command("  zstreampub get 1234 --format payload")
@click.argument("offset", type=Whole(0))
@format_option
@client_options
def get(offset, format, address, timeout_s):
    """Print the message at OFFSET as 'subscribe' prints it; exit code 1 if there is none."""
    with connected(address, timeout_s) as client:
        message = client.get(offset)
        kept = client.about() if message is None else None
    if message is None:
        note(f"there is no message at offset {offset}; the log keeps [{kept['first']}, {kept['next']})")
        return exits.REFUSED
    show_message(message, format)
    return exits.OK
