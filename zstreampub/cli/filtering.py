"""``--filter``: a filter as people type it, one comparison or JSON."""

import json
import re

import click

from ..errors import InvalidOption
from ..filters.words import check_filters

_OPERATORS = {"=": "eq", "==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_COMPARISON = re.compile(r"\s*([^\s=!<>{}\[\]][^\s=!<>]*)\s*(==|!=|<=|>=|=|<|>)(?![=<>])\s*(.*?)\s*")


def parse_filter(text):
    """Return the filter of ``payload.total >= 10``, ``headers.region = eu``, or of a map in JSON.

    A value that is JSON for a number, a text, true, false or null is that; any other is the text itself.
    Raises ValueError.
    """
    found = _COMPARISON.fullmatch(text)
    if found is not None:
        field, operator, value = found.groups()
        one = {"where": {field: {_OPERATORS[operator]: _value_of(value)}}}
    else:
        one = _of_json(text)
    try:
        check_filters([one])
    except InvalidOption as error:
        raise ValueError(f"{text!r}: {error}") from error
    return one


def _value_of(text):
    try:
        value = json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text
    return text if isinstance(value, (dict, list)) else value


def _of_json(text):
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise ValueError(f"{text!r} is no filter: write 'payload.total >= 10', or JSON such as "
                         f"'{{\"max_size\": 1000}}' ({error})") from error


def _refuse(word):
    raise ValueError(f"{word} is no number")


class _Filter(click.ParamType):
    name = "filter"

    def split_envvar_value(self, value):
        """A variable has one filter, which may have spaces."""
        return [value]

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value        # a table of the configuration file
        try:
            return parse_filter(value)
        except ValueError as error:
            self.fail(f"{str(error).removesuffix('.')}.", param, ctx)


FILTER = _Filter()
