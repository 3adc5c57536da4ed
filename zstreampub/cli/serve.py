"""``zstreampub serve``: the server, in the foreground."""

import click

from ..errors import InvalidOption
from ..logs import configure_logging
from ..version import __version__
from .options import DEFAULT_ADDRESS, ENDPOINT, STORE, command, option, settings_of, settings_options

DEFAULT_STORE = "lmdb:zstreampub-data"


@command("  zstreampub serve --bind tcp://127.0.0.1:4242 --store lmdb:/var/lib/zstreampub \\\n"
         "      --retain 'flights.>:age=7d,bytes=2G' --retain '>:bytes=20G'")
@option("--bind", multiple=True, type=ENDPOINT, default=[DEFAULT_ADDRESS], metavar="tcp://HOST:PORT",
        help="Where to listen; repeatable. Beyond loopback anybody who reaches the port can publish and read.")
@option("--store", type=STORE, default=DEFAULT_STORE, metavar="URL",
        help="lmdb:FOLDER keeps the log on disk; memory: loses it at the end, for tests.")
@option("--workers", type=click.IntRange(0, 64), default=0,
        help="Further processes that take over subscriptions of clients that know about them, and so use more cores.")
@option("--worker-bind", multiple=True, type=ENDPOINT, metavar="tcp://HOST:PORT",
        help="Where a worker listens, repeated for each. Default: the ports after that of --bind.")
@option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info",
        help="What is logged to stderr, one line a record.")
@settings_options
def serve(bind, store, workers, worker_bind, log_level, **values):
    """Serve a durable log until ctrl-C or SIGTERM, which drain: publishes in flight are
    answered and subscribers told where to resume."""
    settings = settings_of(values)
    configure_logging(log_level)
    from ..serving import serve as run  # loads lmdb and zerorpc, which --help need not wait for

    def say_ready(server, broker):
        click.echo(ready_line(broker, store, server.endpoints), err=True)

    try:
        run(list(bind), store, settings, say_ready, workers, list(worker_bind))
    except InvalidOption as error:
        raise click.UsageError(str(error)) from error


def ready_line(broker, store, bind):
    """Return the one line that says what is served where, and from which offset to which."""
    first, _ = broker.store.bounds()
    return (f"zstreampub {__version__} serving {store} on {', '.join(bind)}, "
            f"offsets [{first}, {broker.next}), epoch {broker.epoch}; ctrl-C drains")
