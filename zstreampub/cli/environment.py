"""Which environment variables are ours; a misspelt one must not pass for a set one.

It is only warned about: a variable may be meant for another version, or for a program around us.
"""

import os
from difflib import get_close_matches

import click

PREFIX = "ZSTREAMPUB"
_OTHERS = {"TRACEBACK"}


def warn(commands):
    """Say on stderr which variables begin like ours and belong to no flag of *commands*."""
    known = {param.name.upper() for command in commands for param in command.params
             if isinstance(param, click.Option)} | _OTHERS
    for variable in sorted(os.environ):
        prefix, found, name = variable.partition("_")
        if prefix == PREFIX and found and name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {PREFIX}_{close[0]}?" if close else "each command's --help lists them."
            click.echo(f"zstreampub: warning: no command knows the environment variable {variable}; {hint}", err=True)
