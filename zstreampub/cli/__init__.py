"""The ``zstreampub`` command: one file for each subcommand."""

import click

from ..version import __version__
from . import (
    bench,
    bridge,
    cancel,
    consume,
    consumers,
    dead,
    exits,
    get,
    last,
    outbox,
    publish,
    scheduled,
    serve,
    stats,
    subscribe,
    subscriptions,
    topics,
    unsubscribe,
)


@click.group(cls=exits.Program, epilog=exits.HELP, context_settings={"max_content_width": 110})
@click.version_option(__version__, prog_name="zstreampub", message="%(prog)s %(version)s")
def main():
    """Durable publish-subscribe for zerorpc services.

    Every flag can be set in the environment (ZSTREAMPUB_ADDRESS=..., the names are in
    each command's --help) and in a TOML file (--config FILE), for all commands at the
    top, for one in a table such as [serve].
    """


for _command in (serve.serve, publish.publish, subscribe.subscribe, get.get, last.last, topics.topics,
                 subscriptions.subscriptions, unsubscribe.unsubscribe, consume.consume, consumers.consumers, dead.dead,
                 scheduled.scheduled, cancel.cancel, outbox.outbox, stats.stats, bridge.bridge, bench.bench):
    main.add_command(_command)
