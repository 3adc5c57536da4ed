"""Which environment variables are ours; a misspelt one must not pass for a set one.

It is only warned about: a variable may be meant for another version, or for a program around us.
"""

import os
from difflib import get_close_matches

import click

from .nouns import leaves

PREFIX = "ZSTREAMPUB"
# What 'zstreampub consume' tells its commands of a message: facts about that message, never settings.
MESSAGE = ("DELIVERY", "CONSUMER", "TOPIC", "OFFSET", "TIME", "KEY", "ID")
HEADER = "HEADER_"
_OTHERS = {"TRACEBACK"}


def forget_message():
    """Take the facts about a message out of the environment, where a command of 'consume' runs us.

    Or its key would become ``--key`` of a publish that gives none.
    """
    if f"{PREFIX}_{MESSAGE[0]}" in os.environ:
        for variable in [one for one in os.environ if is_of_message(one)]:
            del os.environ[variable]


def is_of_message(variable):
    """Tell whether 'consume' would set *variable* for some message."""
    prefix, _, name = variable.partition("_")
    return prefix == PREFIX and (name in MESSAGE or name.startswith(HEADER))


def warn(group):
    """Say on stderr which variables begin like ours and belong to no flag of a command below *group*."""
    known = {param.name.upper() for _, command in leaves(group) for param in command.params
             if isinstance(param, click.Option)} | _OTHERS
    for variable in sorted(os.environ):
        prefix, found, name = variable.partition("_")
        if prefix == PREFIX and found and name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {PREFIX}_{close[0]}?" if close else "each command's --help lists them."
            click.echo(f"zstreampub: warning: no command knows the environment variable {variable}; {hint}", err=True)
