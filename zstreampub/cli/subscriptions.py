"""``zstreampub subscriptions``: who listens, and how far behind."""

from .options import client_options, command, connected, option
from .screen import show_rows

COLUMNS = ["id", "name", "patterns", "policy", "state", "position", "lag"]


@command("  zstreampub subscriptions --json | jq 'select(.lag > 1000)'")
@option("--json", "as_json", is_flag=True, help="JSON lines also on a terminal.")
@client_options
def subscriptions(as_json, address, timeout_s):
    """List the live subscriptions: patterns, policy, position, and how many offsets each is behind."""
    with connected(address, timeout_s) as client:
        rows = client.subscriptions()
    columns = [name for name in COLUMNS if any(name in row for row in rows)]
    show_rows(rows, columns, as_json, "nobody subscribes")
