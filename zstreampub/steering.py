"""What a client may ask of durable consumers: the arguments of each call, turned into the consumers' terms.

The service and the lane both use these, so that a call means the same on either way. What names,
deliveries and settings may be is checked by the consumers themselves, for an embedded caller too;
here it is seen to that there is no argument and no option of which they have never heard.
"""

from .checks import check_options, within
from .errors import InvalidOption, LimitExceeded, MalformedRequest

SETTINGS = ("mode", "ack_wait_s", "backoff_s", "jitter", "max_deliveries", "max_pending", "retention", "expired",
            "max_dead", "inactive_s")
CREATE_OPTIONS = ("start", *SETTINGS)
UPDATE_OPTIONS = SETTINGS[1:]
JOIN_OPTIONS = ("consumer", *CREATE_OPTIONS, "max_in_flight", "max_bytes", "member", "held", "format",
                "compression", "name")

# What settles, and the options that it takes; extend takes its seconds as an argument.
SETTLING = {"ack": ("before",), "nack": ("delay_s", "reason", "unseen", "member"), "reject": ("reason",), "extend": ()}

MAX_ENTRIES = 8_192         # of deliveries, in one call: each is looked up on the hub, in 4 us
_LONGEST_WORK_S = 366 * 86_400.0


def parse_settling(verb, args):
    """Return ``(consumer, deliveries, options)`` of one call of *verb*, one of SETTLING."""
    least = 3 if verb == "extend" else 2
    if not isinstance(args, (list, tuple)) or not least <= len(args) <= 3:
        raise MalformedRequest(f"{verb} takes {'' if least == 3 else '2 or '}3 arguments: see docs/protocol.rst.")
    consumer, deliveries, *rest = args
    if verb == "extend":
        options = {"seconds": within("seconds", rest[0], None, 0, _LONGEST_WORK_S, float)}
    else:
        options = given(rest[0], SETTLING[verb]) if rest else {}
    if deliveries is None and "before" not in options:      # more likely a mistake than a wish
        raise InvalidOption("deliveries is an offset, or a list of offsets, [offset, token] and [first, next, token]; "
                            "it may be nil only in an ack with before.", option="deliveries")
    if isinstance(deliveries, (list, tuple)) and len(deliveries) > MAX_ENTRIES:
        raise LimitExceeded(f"One call has at most {MAX_ENTRIES} entries of deliveries, not {len(deliveries)}. Name "
                            "what came together as [first, next, token].", limit=MAX_ENTRIES)
    return consumer, deliveries, options


def given(options, allowed):
    """Return those of *options* that are not nil; they are all among *allowed*."""
    return {name: value for name, value in check_options(options, allowed).items() if value is not None}
