"""Follower: the one native thread that learns what another process has committed, whenever it is woken.

It waits on a socket on which the writing process sends a byte, WAKE, after each commit; its end is that process's end.
A native thread, so nothing here may use what gevent patches. What the hub must do is handed to ``tell``.
"""

from gevent.monkey import get_original

from ..errors import StoreError

WAKE = b"\0"
STEPS_AHEAD = 2         # that the hub has not fanned out yet: what is in memory is bounded
_LOOK_S = 1.0           # it looks so often without being woken
_MOST_WAKES = 4096

_start_thread = get_original("_thread", "start_new_thread")
_SimpleQueue = get_original("queue", "SimpleQueue")


class Follower:
    """The thread. ``tell(outcome)`` is called in it: with a Step that has something, or with the error of its end.

    With a number, if so many bytes were sent that are no WAKE: what they mean is not its business.

    ``done()`` is to be called for each step when it has been fanned out. The StoreError of the end is a StoreClosed
    if the writing process has gone.
    """

    def __init__(self, environment, state, socket, tell, gone):
        self._environment = environment
        self._state = state
        self._socket = socket
        socket.settimeout(_LOOK_S)
        self._tell = tell
        self._gone = gone
        self._room = _SimpleQueue()
        for _ in range(STEPS_AHEAD):
            self._room.put(True)
        self.steps = 0
        _start_thread(self._run, ())

    def done(self):
        """A step has been fanned out: there is room for another."""
        self._room.put(True)

    def end(self):
        """Have the thread end, if it waits for room."""
        self._room.put(False)

    def _run(self):
        try:
            while self._wait():
                if not self._catch_up():
                    return
            self._tell(self._gone)
        except BaseException as error:
            self._tell(_dying(error))

    def _wait(self):
        """Wait to be woken, or a while; return False when the other process has gone."""
        try:
            got = self._socket.recv(_MOST_WAKES)
            asked = len(got) - got.count(WAKE)
            if asked:
                self._tell(asked)
            return bool(got)
        except TimeoutError:
            return True
        except ConnectionResetError:
            return False

    def _catch_up(self):
        """Take all that there is, a step at a time; return False if the store is being closed."""
        more = True
        while more:
            if not self._room.get():
                return False
            step = self._environment.read(self._state.step)
            if step.batches or step.torn:
                self.steps += 1
                self._tell(step)
            else:
                self._room.put(True)
            more = step.more
        return True


def _dying(error):
    if isinstance(error, StoreError):
        return error
    return StoreError(f"The thread that follows the log has stopped: {type(error).__name__}: {error}. Start again.")
