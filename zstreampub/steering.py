"""What a client may ask of durable consumers: the arguments of each call, turned into the consumers' terms.

The service and the lane both use these, so that a call means the same on either way. What names,
deliveries and settings may be is checked by the consumers themselves, for an embedded caller too;
here it is seen to that there is no argument and no option of which they have never heard.
"""

from .checks import check_options, within
from .errors import MalformedRequest

MOST_OFFSETS = 1 << 53

SETTINGS = ("mode", "ack_wait_s", "backoff_s", "jitter", "max_deliveries", "max_pending", "retention", "expired",
            "max_dead", "inactive_s")
CREATE_OPTIONS = ("start", *SETTINGS)
UPDATE_OPTIONS = SETTINGS[1:]
JOIN_OPTIONS = ("consumer", *CREATE_OPTIONS, "max_in_flight", "member", "held", "format", "name")

# What settles, and the options that it takes; extend takes its seconds as an argument.
SETTLING = {"ack": ("before",), "nack": ("delay_s", "reason"), "reject": ("reason",), "extend": ()}

_LONGEST_WORK_S = 366 * 86_400.0
_LONGEST_FETCH_S = 3600.0
_MOST_LISTED = 1_000
_MOST_CLEARED = 1_000_000


def parse_settling(verb, args):
    """Return ``(consumer, deliveries, options)`` of one call of *verb*, one of SETTLING."""
    least = 3 if verb == "extend" else 2
    if not isinstance(args, (list, tuple)) or not least <= len(args) <= 3:
        raise MalformedRequest(f"{verb} takes {'' if least == 3 else '2 or '}3 arguments: see docs/protocol.rst.")
    consumer, deliveries, *rest = args
    if verb == "extend":
        return consumer, deliveries, {"seconds": within("seconds", rest[0], None, 0, _LONGEST_WORK_S, float)}
    if not rest:
        return consumer, deliveries, {}
    options = given(rest[0], SETTLING[verb])
    if deliveries is None and "before" in options:
        deliveries = []
    return consumer, deliveries, options


def parse_fetch(options, most):
    """Return ``(count, other arguments)`` of a fetch of at most *most* messages."""
    options = check_options(options, ("count", "timeout_s", "offset"))
    timeout_s = within("timeout_s", options.get("timeout_s"), 0.0, 0, _LONGEST_FETCH_S, float)
    return within("count", options.get("count"), 1, 1, most), dict(timeout_s=timeout_s, offset=options.get("offset"))


def parse_listing(options):
    """Return the options of a look at messages: where it begins and how many they are at most."""
    options = check_options(options, ("first", "limit"))
    return dict(first=offset("first", options.get("first")),
                limit=within("limit", options.get("limit"), 100, 1, _MOST_LISTED))


def parse_clearing(options):
    """Return the options of ``clear_acked``."""
    options = check_options(options, ("keep_latest", "max_delete"))
    return dict(keep_latest=within("keep_latest", options.get("keep_latest"), 1_000, 0, MOST_OFFSETS),
                max_delete=within("max_delete", options.get("max_delete"), 1_000, 1, _MOST_CLEARED))


def given(options, allowed):
    """Return those of *options* that are not nil; they are all among *allowed*."""
    return {name: value for name, value in check_options(options, allowed).items() if value is not None}


def offset(name, value):
    """Return *value* as an offset, None if it is nil."""
    return None if value is None else within(name, value, None, 0, MOST_OFFSETS)
