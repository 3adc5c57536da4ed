"""``zstreampub serve``: the server, in the foreground."""

import logging
import sys

import click

from ..version import __version__
from .options import DEFAULT_ADDRESS, ENDPOINT, STORE, command, option, settings_of, settings_options

DEFAULT_STORE = "lmdb:zstreampub-data"


@command("  zstreampub serve --bind tcp://127.0.0.1:4242 --store lmdb:/var/lib/zstreampub \\\n"
         "      --retain 'flights.>:age=7d,bytes=2G' --retain '>:bytes=20G'")
@option("--bind", multiple=True, type=ENDPOINT, default=[DEFAULT_ADDRESS], metavar="tcp://HOST:PORT",
        help="Where to listen; repeatable. Beyond loopback anybody who reaches the port can publish and read.")
@option("--store", type=STORE, default=DEFAULT_STORE, metavar="URL",
        help="lmdb:FOLDER keeps the log on disk; memory: loses it at the end, for tests.")
@option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info",
        help="What is logged to stderr, one line a record.")
@settings_options
def serve(bind, store, log_level, **values):
    """Serve a durable log until ctrl-C or SIGTERM, which drain: publishes in flight are
    answered and subscribers told where to resume."""
    settings = settings_of(values)
    configure_logging(log_level)
    from ..server import serve as run  # loads lmdb and zerorpc, which --help need not wait for

    def say_ready(server, broker):
        click.echo(ready_line(broker, store, server.endpoints), err=True)

    run(list(bind), store, settings, ready=say_ready)


def ready_line(broker, store, bind):
    """Return the one line that says what is served where, and from which offset to which."""
    first, _ = broker.store.bounds()
    return (f"zstreampub {__version__} serving {store} on {', '.join(bind)}, "
            f"offsets [{first}, {broker.next}), epoch {broker.epoch}; ctrl-C drains")


class OneLine(logging.Formatter):
    """A record is one line, also where it has a traceback, so that the log can be searched by line."""

    def format(self, record):
        return " | ".join(line for line in super().format(record).splitlines() if line.strip())


def configure_logging(level):
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("zerorpc").setLevel(max(logging.WARNING, logging.getLogger().level))
