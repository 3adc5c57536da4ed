"""How a server process logs: to stderr, one line a record."""

import logging
import sys


class OneLine(logging.Formatter):
    """A record is one line, also where it has a traceback, so that the log can be searched by line."""

    def format(self, record):
        return " | ".join(line for line in super().format(record).splitlines() if line.strip())


def configure_logging(level, who="%(name)s"):
    """Log from *level* (text) on; *who* stands before each message."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(f"%(asctime)s %(levelname)s {who}: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("zerorpc").setLevel(max(logging.WARNING, logging.getLogger().level))
