"""``zstreampub scheduled``: messages that wait for their time."""

from datetime import datetime

from .options import client_options, command, connected, option
from .screen import Out, show_rows

_AT_A_TIME = 1000


@command("  zstreampub scheduled --json | jq -r 'select(.topic == \"orders.later\").id' | xargs zstreampub cancel")
@option("--json", "as_json", is_flag=True, help="JSON lines also on a terminal.")
@client_options
def scheduled(as_json, address, timeout_s):
    """List the messages that wait for their time: the id that 'cancel' takes, the topic, when, and the bytes."""
    with connected(address, timeout_s) as client:
        rows = list(_all(client))
    if not as_json and Out().is_terminal:
        rows = [{**row, "at": datetime.fromtimestamp(row["at"]).astimezone().isoformat(" ", "milliseconds")}
                for row in rows]
    show_rows(rows, ["id", "topic", "at", "size"], as_json, "no message waits for its time")


def _all(client):
    """Yield what waits; the server lists only so many at a time."""
    options = {"limit": _AT_A_TIME}
    while True:
        rows = client.call("scheduled", options)
        yield from rows
        if len(rows) < _AT_A_TIME:
            return
        options["after"] = rows[-1]["id"]
