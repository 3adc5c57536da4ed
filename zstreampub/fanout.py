"""The fan-out: what the store made durable, offered to every subscription of its topic, in offset order.

Runs on the hub and never waits. What would hold the hub for long is done in turns, and
nothing overtakes what was there before. The newest batches are kept a while, for
readers that are only just behind.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import gevent

from .stats import Histogram
from .topics import PatternTree

_TURN_S = 0.003             # how long the fan-out may hold the hub
_TAIL_BYTES = 16 << 20      # of the newest batches, kept for readers that are only just behind
_TAIL_MESSAGES = 1 << 16    # of them: tiny ones weigh more than their bytes
_ROUTES = 8192              # topics whose subscriptions are remembered


class _Tear(NamedTuple):
    next: int
    lapse: Callable


class FanOut:
    """Offers batches to subscriptions; ``next`` is the offset after the last one that was offered.

    ``answer(append)`` is called when an append is through, ``turned(done)`` after each turn, and
    ``failed(error)`` after a bug, which ends the fan-out: nothing may be delivered out of order.
    """

    def __init__(self, next, answer, turned, failed):
        self.next = next
        self.published = self.offered = 0
        self.turn_us = Histogram()
        self._answer = answer
        self._turned = turned
        self._failed = failed
        self._waiting = deque()
        self._steps = None                  # the fan-out that is going on
        self._patterns = PatternTree()
        self._routes = {}                   # topic -> subscriptions
        self._bounded = {}                  # those with an `until`
        self._tail = deque()
        self._tail_first = next
        self._tail_bytes = self._tail_messages = 0

    # --- who takes part ----------------------------------------------------------------------

    def add(self, subscription):
        """Offer *subscription* what comes from now on."""
        for pattern in set(subscription.wanted.patterns):
            self._patterns.add(pattern, subscription)
        self._routes.clear()
        if subscription.is_bounded:
            self._bounded[subscription.id] = subscription

    def remove(self, subscription):
        """Undo :meth:`add`."""
        self._bounded.pop(subscription.id, None)
        for pattern in set(subscription.wanted.patterns):
            self._patterns.remove(pattern, subscription)
        self._routes.clear()

    def tail_from(self, cursor):
        """Return the batches from *cursor* on if they are all in memory still, else None."""
        if cursor < self._tail_first:
            return None
        if cursor >= self.next:
            return ()
        found = []
        for batch in reversed(self._tail):
            if batch.next <= cursor:
                break
            found.append(batch)
        return reversed(found)

    # --- turns -------------------------------------------------------------------------------

    def deliver(self, appends):
        """Fan out *appends*, which are finished: at once, or in turns if that takes long."""
        self._waiting.extend(appends)
        if self._steps is None:
            self._steps = self._deliver_steps()
            if not self._turn():
                gevent.spawn(self._deliver_rest)

    def tear(self, next, lapse):
        """Go on at *next*, once all that was delivered before is fanned out: what lies between is only in the log.

        ``lapse()`` is called there, to have the subscriptions read it.
        """
        self.deliver([_Tear(next, lapse)])

    def _deliver_rest(self):
        done = False
        while not done:
            gevent.idle(2)      # polls, unlike sleep(0)
            done = self._turn()

    def _turn(self):
        """Go on for a few milliseconds; return whether nothing is left."""
        began = time.perf_counter()
        done = True
        try:
            for _ in self._steps:
                if time.perf_counter() - began > _TURN_S:
                    done = False
                    break
            for subscription in tuple(self._bounded.values()):
                subscription.reach(self.next)
        except Exception as error:      # a bug of ours
            self._failed(error)
            self._waiting.clear()
            done = True
        if done:
            self._steps = None
        self._turned(done)
        self.turn_us.add((time.perf_counter() - began) * 1e6)
        return done

    def _deliver_steps(self):
        """Fan out each append, then have its publisher answered; yield after each batch."""
        while self._waiting:
            append = self._waiting.popleft()
            if isinstance(append, _Tear):
                self._go_on_at(append)
            elif append.error is not None or append.duplicate:
                self._answer(append)
            else:
                yield from self._fan_out(append)

    def _fan_out(self, append):
        holders = {}
        for batch in append.stored():
            self._remember(batch)
            self.next = batch.next
            self.published += batch.count
            route = self._route(batch.topic)
            self.offered += batch.count * len(route)
            for subscription in route:
                if subscription.offer(batch):
                    holders[subscription] = batch.next
            yield
        if holders:
            self._hold(append, holders)
        else:
            self._answer(append)

    def _go_on_at(self, tear):
        self._tail.clear()
        self._tail_bytes = self._tail_messages = 0
        self._tail_first = tear.next
        tear.lapse()
        self.next = tear.next

    def _hold(self, append, holders):
        """Answer *append* when all *holders* have room for it."""
        append.forget_bytes()       # a held answer must cost no more than an answer
        waiting = len(holders)

        def release():
            nonlocal waiting
            waiting -= 1
            if not waiting:
                self._answer(append)

        for subscription, offset in holders.items():
            subscription.hold(offset, release)

    def _route(self, topic):
        route = self._routes.get(topic)
        if route is None:
            if len(self._routes) >= _ROUTES:
                self._routes.clear()
            route = self._routes[topic] = self._patterns.match(topic)
        return route

    def _remember(self, batch):
        tail = self._tail
        tail.append(batch)
        self._tail_bytes += batch.size
        self._tail_messages += batch.count
        while self._tail_bytes > _TAIL_BYTES or self._tail_messages > _TAIL_MESSAGES:
            old = tail.popleft()
            self._tail_bytes -= old.size
            self._tail_messages -= old.count
            self._tail_first = old.next
