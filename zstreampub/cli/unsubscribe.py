"""``zstreampub unsubscribe``: end somebody's subscription."""

import click

from . import exits
from .options import client_options, command, connected
from .screen import note


@command("  zstreampub unsubscribe $(zstreampub subscriptions --json | jq -r 'select(.holding > 0).id')")
@click.argument("subscription_id", metavar="ID")
@client_options
def unsubscribe(subscription_id, address, timeout_s):
    """End the subscription ID, as 'subscriptions' shows it, whoever's it is; exit code 1 if there is none."""
    with connected(address, timeout_s) as client:
        if client.unsubscribe(subscription_id):
            return exits.OK
    note(f"there is no subscription {subscription_id!r}; 'zstreampub subscriptions' lists them")
    return exits.REFUSED
