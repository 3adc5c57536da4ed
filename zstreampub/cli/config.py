"""The configuration file: TOML, keys named as the flags, for all commands or for one.

A key at the top holds for every command that has such a flag, a key in a table
(``[serve]``, ``[subscribe]``, ...) for that command only and before the other. The command
line and the environment come before both. A key that no command knows is an error:
a misspelt limit must not pass for a set one.
"""

import sys
from difflib import get_close_matches

import click

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def load(ctx, _, path):
    """Make the values of the file at *path* this command's defaults (a callback of ``--config``)."""
    if path is None:
        return
    commands = ctx.parent.command.commands
    settings = {name: _settings_of(command) for name, command in commands.items()}
    everywhere, tables = _split(path, _read(path), commands)
    known = {name for some in settings.values() for name in some}
    for key in everywhere:
        _refuse_unknown(path, key, known | set(commands), "")
    for name, table in tables.items():
        for key in table:
            _refuse_unknown(path, key, settings[name], f"[{name}] ")
    mine = settings[ctx.info_name]
    values = {key: value for key, value in everywhere.items() if key in mine}
    values.update(tables.get(ctx.info_name, {}))
    ctx.default_map = {key: _fit(path, mine[key], value) for key, value in values.items()}


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


def _split(path, content, commands):
    tables = {name: table for name, table in content.items() if name in commands}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise click.UsageError(f"{path}: {name} is a table: write [{name}] above its settings.")
    return {key: value for key, value in content.items() if key not in commands}, tables


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
