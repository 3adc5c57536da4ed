"""The words of filters, checked: from plain maps to what picks messages. docs/filters.rst explains them.

Whatever a stranger sends ends here: known words, right types, and bounds on everything that costs time or memory.
"""

import msgpack

from ..checks import check_options, within
from ..errors import InvalidOption
from .conditions import condition
from .fields import field_at, needs_payload
from .rates import Every, MinPeriod

MAX_FILTERS = 16            # of one list
MAX_RATES = 4               # of these, that remember: min_period and every
MAX_CONDITIONS = 64         # in all filters of a list: comparisons of one message
MAX_FILTERS_BYTES = 16_384  # of a list, packed
MAX_PERIOD_S = 366 * 86_400.0
LEAST_PERIOD_S = 1e-6

_MICRO = 1_000_000
_PER = (None, "topic", "key")


class MaxSize:
    """Passes payloads of at most so many bytes, packed."""

    def __init__(self, most_bytes):
        self._most = most_bytes

    def pick(self, opened, places):
        """Return those of *places* that pass."""
        sizes, most = opened.sizes, self._most
        if len(places) == len(sizes) and max(sizes) <= most:
            return places
        return [at for at in places if sizes[at] <= most]


class Where:
    """Passes what fulfils all conditions, a list of ``(field, conditions on its values)``."""

    def __init__(self, fields):
        self._fields = fields

    def pick(self, opened, places):
        """Return those of *places* that pass."""
        for field, conditions in self._fields:
            values = field(opened, places)
            for number, holds in enumerate(conditions):
                if number and len(values) != len(places):
                    values = field(opened, places)
                places = holds(places, values)
                if not places:
                    return places
        return places


class Parsed:
    """What a list of filters means: ``stages`` in order, which of them are ``rates``, ``headers_only``, and whether
    it ``opens_payloads``."""

    def __init__(self, filters):
        self.stages = []
        self.rates = []
        self.headers_only = self.opens_payloads = False
        self.conditions = 0
        for one in _as_list(filters):
            self._add(one)

    def _add(self, one):
        words = [word for word in one if word in _WORDS] if isinstance(one, dict) else []
        if len(words) != 1:
            raise InvalidOption(f"A filter is a map with one of {', '.join(_WORDS)}; not {one!r:.80}.",
                                option="filters")
        build, others = _WORDS[words[0]]
        build(self, **check_options(one, (words[0], *others)))

    def _max_size(self, max_size):
        self.stages.append(MaxSize(within("max_size", max_size, None, 1, 1 << 53)))

    def _min_period(self, min_period, by="time", per=None):
        period_s = within("min_period", min_period, None, LEAST_PERIOD_S, MAX_PERIOD_S, float)
        stamps = None
        if by not in ("time", "arrival"):
            if not isinstance(by, str) or not by.startswith(("payload.", "headers.")):
                raise InvalidOption("by is 'time' (when the message was stored), 'arrival', or the field with the "
                                    f"message's own time: payload.NAME, headers.NAME; not {by!r:.60}.",
                                    option="filters")
            stamps = field_at(by)
            self.opens_payloads |= needs_payload(by)
        name = ("min_period", by, per)
        self._add_rate(MinPeriod(round(period_s * _MICRO), stamps, by == "arrival", _check_per(per), name))

    def _every(self, every, per=None):
        self._add_rate(Every(within("every", every, None, 1, 1 << 53), _check_per(per), ("every", per)))

    def _add_rate(self, rate):
        if len(self.rates) >= MAX_RATES:
            raise InvalidOption(f"At most {MAX_RATES} filters are min_period or every: they remember.",
                                option="filters")
        self.rates.append(rate)
        self.stages.append(rate)

    def _where(self, where):
        if not isinstance(where, dict) or not where:
            raise InvalidOption("where is a map of fields to values or conditions, as {'payload.total': {'ge': 10}}; "
                                f"not {where!r:.60}.", option="filters")
        fields = []
        for path, wanted in where.items():
            field = field_at(path)
            tests = wanted if isinstance(wanted, dict) else {"eq": wanted}
            self.conditions += len(tests)
            if not tests or self.conditions > MAX_CONDITIONS:
                raise InvalidOption(f"{path}: a field has at least one condition, and all filters together at most "
                                    f"{MAX_CONDITIONS}.", option="filters")
            fields.append((needs_payload(path), field, [condition(path, *test) for test in tests.items()]))
            self.opens_payloads |= needs_payload(path)
        # What needs no payload comes first: those of messages that fail there are not looked into.
        self.stages.append(Where([(field, tests) for _, field, tests in sorted(fields, key=lambda one: one[0])]))

    def _headers_only(self, headers_only):
        if headers_only is not True:
            raise InvalidOption("headers_only is true, or left out.", option="filters")
        self.headers_only = True


def filters_of_a_member():
    """Return the error for filters on a durable consumer, which has to settle every message of its patterns."""
    return InvalidOption("filters are for subscriptions, not for durable consumers. Give the consumer the patterns of "
                         "the topics that it wants, or filter where it is worked on: zstreampub.Chain.",
                         option="filters")


def _as_list(filters):
    """Return *filters*, one map or a list of them, as a list within its bounds."""
    filters = [filters] if isinstance(filters, dict) else filters
    if not isinstance(filters, (list, tuple)):
        raise InvalidOption(f"filters is a map or a list of maps, not {type(filters).__name__}.", option="filters")
    if len(filters) > MAX_FILTERS:
        raise InvalidOption(f"There are at most {MAX_FILTERS} filters in a list, not {len(filters)}.",
                            option="filters")
    try:
        size = len(msgpack.packb(filters, use_bin_type=True))
    except Exception as error:      # TypeError, OverflowError, ValueError, UnicodeError, RecursionError
        raise InvalidOption(f"filters are plain maps of text, numbers, bytes, booleans and nil: {error}.",
                            option="filters") from error
    if size > MAX_FILTERS_BYTES:
        raise InvalidOption(f"filters have at most {MAX_FILTERS_BYTES} bytes, packed as msgpack; these have {size}.",
                            option="filters")
    return filters


def _check_per(per):
    if per not in _PER:
        raise InvalidOption(f"per is 'topic', 'key' (of a topic), or left out; not {per!r:.60}.", option="filters")
    return per


_WORDS: dict = {
    "max_size": (Parsed._max_size, ()), "min_period": (Parsed._min_period, ("by", "per")),
    "every": (Parsed._every, ("per",)), "where": (Parsed._where, ()), "headers_only": (Parsed._headers_only, ()),
}


def check_filters(filters):
    """Raise InvalidOption unless *filters* is a map or a list of maps as docs/filters.rst has them."""
    Parsed(filters)
