"""What an outbox writes is written once, also where Ctrl-C hits the greenlet that waits for it.

Python raises KeyboardInterrupt in whatever greenlet is running. Those of an outbox pass it on to the main one, as
gevent does with greenlets that die of it, and go on: others wait for them.
"""

from contextlib import contextmanager

import gevent

_NONE = "interrupted"       # a mark that is never there


@contextmanager
def passed_on_interruptions():
    """Have an interruption of this greenlet in the main one instead."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as interruption:
        gevent.get_hub().handle_system_error(type(interruption), interruption)


def surely(store, write, mark):
    """Have ``write(mark)`` done in *store*, once; *mark*, a name and a value, tells whether it was."""
    name, value = mark
    was_tried = is_done = False
    while not is_done:
        with passed_on_interruptions():
            if was_tried:
                store.set_mark(_NONE, None)     # behind what was under way: it is on disk then, or never will be
            if not was_tried or store.mark(name) != value:
                was_tried = True
                write(mark)
            is_done = True
