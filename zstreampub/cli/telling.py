"""What readers of a stream tell people on stderr: gaps, and that the connection is gone."""

from contextlib import contextmanager

from .screen import note

_LOOK_S = 0.25


def tell_gap(gap):
    """Say which messages will not come."""
    count = "an unknown number of" if gap["count"] is None else f"{gap['count']:,}"
    what = "message" if gap["count"] == 1 else "messages"
    note(f"gap: {count} {what} in [{gap['first']}, {gap['next']}) will not come ({gap['why']})")


@contextmanager
def losses_told(client, was_connected=True):
    """Say when the connection is gone: until there is a new one, people would only see silence.

    Where it was not connected yet, that there is none is told by others.
    """
    import gevent

    watch = gevent.spawn(_watch, client, was_connected)
    try:
        yield
    finally:
        watch.kill()


def _watch(client, was):
    import gevent

    while True:
        if was and not client.is_connected:
            note("the connection is lost; connecting again ...")
        was = client.is_connected
        gevent.sleep(_LOOK_S)
