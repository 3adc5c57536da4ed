"""``zstreampub topics``: what the log keeps."""

import click

from .options import client_options, command, connected, option
from .screen import show_rows


@command("  zstreampub topics 'flights.SFO.*'")
@click.argument("pattern", default=">")
@option("--json", "as_json", is_flag=True, help="JSON lines also on a terminal.")
@client_options
def topics(pattern, as_json, address, timeout_s):
    """List the topics that match PATTERN (default: all): messages and bytes kept, and the
    offset after the newest message."""
    with connected(address, timeout_s) as client:
        rows = client.topics(pattern)
    show_rows(rows, ["topic", "messages", "bytes", "next"], as_json, f"no topic matches {pattern}")
