"""``zstreampub stats``: the server's counters."""

from .options import client_options, command, connected, option
from .screen import Out, show_pairs, to_json


@command("  zstreampub stats --json | jq .next")
@option("--json", "as_json", is_flag=True, help="JSON also on a terminal.")
@client_options
def stats(as_json, address, timeout_s):
    """Show the counters of the server and its workers; docs/operations.rst says what each means."""
    with connected(address, timeout_s) as client:
        counters = client.stats()
        workers = client.ask_workers("stats")
    if workers:
        counters["workers"] = {str(number): theirs for number, theirs in workers.items()}
    out = Out()
    if as_json or not out.is_terminal:
        out.write(to_json(counters))
        out.flush()
    else:
        show_pairs(flat(counters), "counter", "no counters")


def flat(counters, prefix=""):
    """Yield ``("outer.inner", value)`` for nested maps."""
    for name, value in counters.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
