"""``zstreampub cancel``: take back messages that wait for their time."""

import click

from . import exits
from .options import client_options, command, connected
from .screen import note


@command("  zstreampub cancel $(zstreampub scheduled --json | jq -r .id)")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@client_options
def cancel(ids, address, timeout_s):
    """Take back the messages ID, as 'scheduled' shows them; exit code 1 if one is not there (any more)."""
    code = exits.OK
    with connected(address, timeout_s) as client:
        for one in ids:
            if not client.call("cancel", one):
                note(f"no message waits under {one!r}; 'zstreampub scheduled' lists them")
                code = exits.REFUSED
    return code
