"""Commands about one noun: ``zstreampub consumers create ...``; without a verb, the noun shows what there is."""

import click


class Noun(click.Group):
    """A group of commands; where the first word is none of them, the command called *default* is meant."""

    def __init__(self, *args, default, **extra):
        super().__init__(*args, **extra)
        self._default = default

    def parse_args(self, ctx, args):
        first = args[0] if args else None
        if first not in self.commands and first not in self.get_help_option_names(ctx):
            args = [self._default, *args]
        return super().parse_args(ctx, args)


def noun(name, example, default):
    """Return a decorator that makes a :class:`Noun` of a function, its docstring the help."""
    return click.group(name, cls=Noun, default=default, epilog=f"\b\nExample:\n{example}",
                       subcommand_metavar="[COMMAND] [ARGS]...", context_settings={"max_content_width": 110})


def leaves(group, place=()):
    """Yield ``(("consumers", "create"), command)`` for every command below *group*."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*place, name))
        else:
            yield (*place, name), command
