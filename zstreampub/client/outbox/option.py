"""The option ``outbox`` of a Client: what it opens, and what it rules out."""

from ...errors import InvalidOption


def open_outbox(path, channels, publisher, *bounds):
    """Return the Outbox in *path*, None for None. Where it cannot be opened, *channels* are closed."""
    if path is None:
        return None
    from .outbox import Outbox  # loads lmdb, which a client needs for nothing else
    try:
        return Outbox(path, channels, publisher, *bounds)
    except BaseException:
        channels.close()
        raise


def refuse_with(outbox, what):
    """Raise InvalidOption if there is an *outbox*."""
    if outbox is not None:
        raise InvalidOption(f"{what!r} needs the server's answer, which an outbox may get days later. Use another "
                            "Client, without an outbox.", option=what)
