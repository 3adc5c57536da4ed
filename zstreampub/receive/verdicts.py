"""What ``on_exception`` may say, and how long a receiver waits before it tries again."""

import logging
from inspect import signature

from ..client.timing import Backoff
from ..errors import InvalidOption

logger = logging.getLogger(__name__)

STOP, SKIP, RETRY = "stop", "skip", "retry"
RETRY_FIRST_S = 0.1
RETRY_MOST_S = 10.0


class Stopped(Exception):
    """The receiver is to end; ``args[0]`` is the error because of which, or None where it was asked to."""


class Judge:
    """Asks ``on_exception(error, message)``; *message* is None where the trouble is the connection's, or a gap."""

    def __init__(self, on_exception):
        if not callable(on_exception) or not _takes_two(on_exception):
            raise InvalidOption("on_exception is a function of an error and a message that returns 'stop', 'skip' or "
                                "'retry'; it must be given.", option="on_exception")
        self._on_exception = on_exception

    def verdict(self, error, message):
        """Return the verdict. Raises Stopped for "stop", and where the answer is none or on_exception itself fails."""
        try:
            said = self._on_exception(error, message)
            if said not in (STOP, SKIP, RETRY):
                raise InvalidOption(f"on_exception returns 'stop', 'skip' or 'retry', not {said!r:.60}.",
                                    option="on_exception") from error
        except Exception as failed:
            logger.exception("the receiver stops: on_exception failed with %r and %r", error, message)
            raise Stopped(failed) from failed
        if said == STOP:
            raise Stopped(error) from error
        return said


def _takes_two(function):
    try:
        signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:      # of something built in that does not tell
        pass
    return True


def new_backoff():
    """Return the pauses between tries: from RETRY_FIRST_S, doubling up to RETRY_MOST_S."""
    return Backoff(RETRY_FIRST_S, RETRY_MOST_S)
