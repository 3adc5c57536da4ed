"""How a greenlet of the hub asks the program in the event loop: it calls a function or coroutine there, and waits."""

import asyncio
import concurrent.futures
import contextvars
import inspect

import gevent
from gevent.event import AsyncResult


class Asking:
    """Calls the program's functions in the event loop and, as its maker sees it, in the maker's context variables."""

    def __init__(self, line):
        self._line = line
        self._context = contextvars.copy_context()
        self._tasks = set()
        self._is_cancelled = False

    def call(self, function, *args):
        """Return or raise what ``function(*args)`` does, awaited if need be; called in a greenlet of the hub.

        If the greenlet is killed, the task is cancelled. After :meth:`cancel` this raises GreenletExit: the
        greenlet is to stop. A task that somebody else cancels raises ``concurrent.futures.CancelledError``
        here, which is an Exception.
        """
        if self._is_cancelled:
            raise gevent.GreenletExit
        one = _Question(self._line, self._end_of_cancelled, function, args)
        self._line.to_loop(self._start, one)
        try:
            return one.answer.get()
        finally:
            if not one.answer.ready():
                self._line.to_loop(one.cancel)

    async def cancel(self):
        """Cancel what is at work, and wait for its end; nothing more is called. In the event loop."""
        self._is_cancelled = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end_of_cancelled(self):
        """Return what the greenlet gets whose task was cancelled."""
        return (gevent.GreenletExit() if self._is_cancelled
                else concurrent.futures.CancelledError("The callback was cancelled."))

    def _start(self, one):
        if self._is_cancelled:
            one.end(self._end_of_cancelled())
            return
        task = one.task = self._context.run(asyncio.get_running_loop().create_task, one.work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Question:
    """One call."""

    def __init__(self, line, end_of_cancelled, function, args):
        self.answer = AsyncResult()
        self.task = None
        self._line = line
        self._end_of_cancelled = end_of_cancelled
        self._function, self._args = function, args

    async def work(self):
        value = None
        error: BaseException | None = None
        try:
            value = self._function(*self._args)
            if inspect.isawaitable(value):
                value = await value
        except asyncio.CancelledError:
            error = self._end_of_cancelled()
            raise
        except Exception as raised:
            error = raised
        finally:
            self._line.to_hub(self._settle, value, error)

    def cancel(self):
        """Stop it; in the event loop."""
        if self.task is not None:
            self.task.cancel()

    def end(self, error):
        """Have it raise *error* without being asked; in the event loop."""
        self._line.to_hub(self._settle, None, error)

    def _settle(self, value, error):
        if error is None:
            self.answer.set(value)
        else:
            self.answer.set_exception(error)
