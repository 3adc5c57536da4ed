"""How commands and their flags are declared: each flag is also an environment variable and a key of the file.

The variable is ZSTREAMPUB_ and the name of the flag's value, without the name of the
command: ZSTREAMPUB_ADDRESS serves all of them. ``--help`` shows it at every flag.
"""

import signal
from contextlib import contextmanager
from dataclasses import fields
from math import inf
from time import monotonic

import click

from ..errors import ConnectionLost, InvalidOption
from ..settings import WORDS, Settings
from . import config, units
from .environment import PREFIX
from .exits import TERMINATED, Failed
from .screen import note

POLICIES = ["spill", "drop", "drop_oldest", "conflate", "disconnect", "block"]
_LOOK_S = 0.05
PATIENCE_S = 1.0        # without a connection for so long, people are told what is waited for
DEFAULT_ADDRESS = "tcp://127.0.0.1:4242"


class Parsed(click.ParamType):
    """A value that *parse* makes of text; its ValueError becomes the message."""

    def __init__(self, name, parse):
        self.name = name
        self._parse = parse

    def convert(self, value, param, ctx):
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            return value
        try:
            return self._parse(str(value))
        except ValueError as error:
            self.fail(f"{str(error).removesuffix('.')}.", param, ctx)


class Whole(click.IntRange):
    """click's, under a name that people know."""

    name = "integer"


BYTES = Parsed("bytes", units.parse_bytes)
ENDPOINT = Parsed("endpoint", units.parse_endpoint)
STORE = Parsed("store", units.parse_store)
SECONDS = Parsed("seconds", units.parse_seconds)


def command(example, name=None, cls=click.Command):
    """Return a decorator as ``click.command``; *example* is shown below the help."""
    def decorate(function):
        made = click.command(
            name, cls, epilog=f"\b\nExample:\n{example}",
            context_settings={"auto_envvar_prefix": PREFIX, "show_default": True, "max_content_width": 110},
        )(config_option(function))
        return made
    return decorate


def option(*names, **extra):
    """Return a decorator as ``click.option``, with the environment variable in the help."""
    return click.option(*names, show_envvar=True, **extra)


def config_option(function):
    return option("--config", metavar="FILE", callback=config.load, is_eager=True, expose_value=False,
                  help="TOML file with settings; a key is a variable's name below, in lower case, "
                       "without ZSTREAMPUB_.")(function)


def client_options(function):
    """Add what every command that talks to a server takes."""
    function = option("--timeout-s", type=SECONDS, default=10.0, metavar="SECONDS",
                      help="Longest to wait for the server's answer.")(function)
    return option("--address", type=ENDPOINT, default=DEFAULT_ADDRESS, metavar="tcp://HOST:PORT",
                  help="The server.")(function)


def format_option(function):
    """Add ``--format``, of every command that prints messages."""
    return option("--format", type=click.Choice(["auto", "json", "text", "payload"]), default="auto",
                  help="auto: text on a terminal, JSON lines in a pipe. payload: only the payload, text and bytes "
                       "as they are.")(function)


@contextmanager
def connected(address, timeout_s, **options):
    """Give a :class:`zstreampub.client.Client`, made with *options*, that is closed afterwards."""
    import gevent

    from ..client import Client  # gevent and pyzmq take a while to load; --help should not

    _interrupt_quietly()
    client = Client(address, timeout_s=timeout_s, **options)
    patience = gevent.spawn(_tell_waiting, client, address, timeout_s)
    try:
        yield client
    except ConnectionLost as error:
        raise ConnectionLost(f"{error} Is a server running there? "
                             "'zstreampub serve' starts one, --address names another.") from error
    finally:
        patience.kill()
        client.close()


def _tell_waiting(client, address, timeout_s):
    import gevent

    ends = monotonic() + PATIENCE_S
    while monotonic() < ends:
        if client.is_connected:
            return      # that it is lost later is told by others
        gevent.sleep(_LOOK_S)
    if timeout_s > PATIENCE_S:
        note(f"no connection to {address} yet, trying {'on' if timeout_s == inf else f'for {timeout_s:g} s'}")


def _interrupt_quietly():
    """Let ctrl-C reach the command only: in gevent's hub, where it mostly strikes, it would be printed first."""
    import gevent

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:      # not in a background job, which ignores it
        gevent.signal_handler(signal.SIGINT, gevent.kill, gevent.getcurrent(), KeyboardInterrupt)


def end_on_sigterm():
    """Let SIGTERM end the command as ctrl-C does: with everything that it closes and writes down."""
    import gevent

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        gevent.signal_handler(signal.SIGTERM, gevent.kill, gevent.getcurrent(), Failed(TERMINATED))


def settings_options(function):
    """Add a flag for each field of :class:`Settings`, and ``--retain``."""
    for one in reversed(fields(Settings)):
        if one.name == "retention":
            decorate = option("--retain", multiple=True, type=Parsed("rule", units.parse_retention),
                              metavar="PATTERN:LIMIT=VALUE,...",
                              help="Keep at most that much of the topics that match; the first rule that matches a "
                                   "topic counts. Limits: age=7d, bytes=2G, messages=1000000. newest_per_key keeps the "
                                   "newest of each key. Repeatable.")
        else:
            decorate = option(f"--{one.name.replace('_', '-')}", default=one.default, type=_type_of(one),
                              help=_sentence(one.metadata["text"]))
        function = decorate(function)
    return function


def settings_of(values):
    """Take the settings out of a command's *values* and return them as :class:`Settings`."""
    chosen = {one.name: values.pop(one.name) for one in fields(Settings) if one.name != "retention"}
    if chosen["policy"] not in POLICIES:
        raise click.UsageError(f"policy is one of {', '.join(POLICIES)}, not {chosen['policy']!r}.")
    try:
        return Settings(retention=tuple(values.pop("retain")), **chosen)
    except InvalidOption as error:
        raise click.UsageError(str(error)) from error


def _type_of(one):
    if one.name.endswith("_bytes"):
        return BYTES
    if one.name.endswith("_s"):
        return SECONDS
    if one.name in WORDS:
        return click.Choice(WORDS[one.name])
    return type(one.default)


def _sentence(text):
    return f"{text[0].upper()}{text[1:]}."
