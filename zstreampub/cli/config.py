"""The configuration file: TOML, keys named as the flags, for all commands or for one.

A key at the top holds for every command that has such a flag, a key in a table
(``[serve]``, ``[consumers.create]``, ...) for that command only and before the other. The command
line and the environment come before both. A key that no command knows is an error:
a misspelt limit must not pass for a set one.
"""

import sys
from difflib import get_close_matches

import click

from .nouns import leaves

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def load(ctx, _, path):
    """Make the values of the file at *path* this command's defaults (a callback of ``--config``)."""
    if path is None:
        return
    root = ctx.find_root().command
    settings = {place: _settings_of(command) for place, command in leaves(root)}
    everywhere, tables = _split(path, _read(path), root)
    known = {name for some in settings.values() for name in some}
    for key in everywhere:
        _refuse_unknown(path, key, known | set(root.commands), "")
    for place, table in tables.items():
        for key in table:
            _refuse_unknown(path, key, settings[place], f"[{'.'.join(place)}] ")
    here = _place_of(ctx)
    mine = settings[here]
    values = {key: value for key, value in everywhere.items() if key in mine}
    values.update(tables.get(here, {}))
    ctx.default_map = {key: _fit(path, mine[key], value) for key, value in values.items()}


def _place_of(ctx):
    return () if ctx.parent is None else (*_place_of(ctx.parent), ctx.info_name)


def _read(path):
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} is no TOML: {error}.") from error


def _settings_of(command):
    return {param.name: param for param in command.params
            if isinstance(param, click.Option) and param.callback is not load}


def _split(path, content, group, place=()):
    """Return the settings at the top of *content*, and the table of each command that has one."""
    tables = {}
    for name in [name for name in content if name in group.commands]:
        table, command, there = content[name], group.commands[name], (*place, name)
        if not isinstance(table, dict):
            raise click.UsageError(f"{path}: {name} is a table: write [{'.'.join(there)}] above its settings.")
        if isinstance(command, click.Group):
            top, inner = _split(path, table, command, there)
            for key in top:
                _refuse_unknown(path, key, command.commands, f"[{'.'.join(there)}] ")
            tables.update(inner)
        else:
            tables[there] = table
    return {key: value for key, value in content.items() if key not in group.commands}, tables


def _refuse_unknown(path, key, known, where):
    if key in known:
        return
    close = get_close_matches(key.replace("-", "_"), known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise click.UsageError(f"{path}: {where}there is no setting {key!r}{hint}")


def _fit(path, option, value):
    if isinstance(value, dict) or (isinstance(value, list) and not option.multiple):
        raise click.UsageError(f"{path}: {option.name} takes one value, not {value!r:.60}.")
    if option.multiple and not isinstance(value, list):
        return [value]
    return value
