"""A member of a durable consumer as its program sees it: messages to settle, over however many connections.

Rules: a message is handed out only while its lease is ours: not after it has run out, and not
when a later delivery of it has come, or another connection has not got it back. Whatever
the stream brings is taken when it comes, so that a lost connection is rejoined at once,
however long the program works on a message. What waits here has its lease renewed while the
program goes on taking messages; what the program has in hand only under :meth:`run`.
"""

import logging
import os
import socket
from functools import partial
from time import monotonic

import gevent
from gevent.event import Event

from ..errors import InternalError, RequestTimeout, SubscriptionEnded
from .acks import extend, merged, unseen
from .arrived import Arrived
from .crew import Crew
from .delivery import Delivery
from .leases import Lease, Leases, Renewal
from .publisher import again
from .reader import Reader, remaining_s, weakly
from .stream import NOTHING, size_of

logger = logging.getLogger(__name__)

_GOODBYE_S = 2.0        # the longest that close() waits for the answers to acks
_TURN_S = 0.01          # a program that never waits gives way so often: or its acks would never leave
_OF_MEMBER = ("consumer", "member", "max_in_flight", "name")     # options that are said again with each connection


class Consumption(Reader):
    """Iterate to get deliveries (see :class:`Delivery`); made by ``Client.consume``.

    ``consumer`` and ``member`` are the names, ``id`` is the subscription's, ``gaps`` counts the gaps that were told.
    Several greenlets may read: each message goes to one of them.
    """

    def __init__(self, channels, acks, patterns, options, *, reconnect=True, on_gap=None, on_control=None):
        self.consumer, self.member = options["consumer"], options["member"]
        self.max_in_flight = None
        self.ack_wait_s = 30.0
        self._patterns, self._options = patterns, options
        self._acks = acks
        self._held = Leases()
        self._arrived = Arrived()
        self._looking = self._stopped = False
        self._changed = Event()
        self._turn_at = monotonic()
        self._patient_until = 0.0   # until when the program is taken to be about to take the next
        self.working = 0            # callbacks at work: their messages are to stay ours
        self._renewal = None
        self._tell = None
        super().__init__(channels, reconnect=reconnect, on_gap=on_gap, on_control=on_control,
                         on_ready=weakly(self._look_soon))

    # --- reading -----------------------------------------------------------------------

    def __iter__(self):
        while (delivery := self._take(None)) is not None:
            yield delivery

    def __next__(self):
        delivery = self._take(None)
        if delivery is None:
            raise StopIteration
        return delivery

    def get(self, timeout_s=None):
        """Return the next delivery. Raises RequestTimeout, and SubscriptionEnded after :meth:`stop`."""
        delivery = self._take(None if timeout_s is None else monotonic() + timeout_s)
        if delivery is None:
            raise SubscriptionEnded(f"This member of consumer {self.consumer!r} was stopped.")
        return delivery

    def run(self, callback, *, workers=1, on_exception=None, keep_extending=True):
        """Call ``callback(delivery)`` for each message until :meth:`stop`: ack when it returns, nack when it raises.

        ``on_exception(error, delivery)`` may return "nack" (as None), "reject", or "stop", which gives the message
        back and raises the error here. *workers* greenlets run the callback. With *keep_extending* a message
        stays ours while its callback runs, however long; without it, for the consumer's ``ack_wait_s``.
        A payload that cannot be decoded does not reach the callback: ``on_exception`` gets an UndecodablePayload, and
        unless it says otherwise the message becomes a dead letter.
        A gap without an ``on_gap`` is logged.
        """
        Crew(self, callback, on_exception, keep_extending).run(workers)

    def stop(self):
        """Hand out nothing more: loops end, and :meth:`run` returns when its callbacks have. Then :meth:`close`."""
        self._stopped = True
        self._changed.set()

    def close(self):
        """Leave: what is not settled goes to others at once. Waits for what was said of messages, at most 4 s.

        What has come, and was not handed out to the program, does not count as delivered.
        """
        is_ours = self._outcome is None and self.id is not None
        if is_ours:
            self._look()
        if self._outcome is None:
            self._outcome = (None,)
        if is_ours:
            self._give_back()
        self._drop()
        self._changed.set()
        if gevent.getcurrent() is not gevent.get_hub():
            self._acks.flush(_GOODBYE_S)
            if is_ours and self._take_rest():
                self._give_back()
                self._drop()
                self._acks.flush(_GOODBYE_S)
        super().close()

    def _take_rest(self):
        """Take what the server had sent before it knew that we leave; return whether there was any."""
        stream = self._stream
        while stream is not None and (item := stream.receive()) is not NOTHING:
            self._take_item(stream, item)
        return len(self._arrived) > 0

    def _give_back(self):
        """Say that we leave, and that the program has not looked at what is here."""
        held, key = self._held, unseen(self.id)
        here = [(offset, offset + 1, lease.token) for offset, lease in self._arrived.leases()
                if held.get(offset) is lease]
        if self._channels.is_up:        # else the server takes them back by itself
            for first, next, token in merged(here) or [(0, 0, 0)]:
                self._acks.add(key, first, next, token, self.member).asked = True

    def watch(self, on_ready):
        self._tell = on_ready

    def settle(self, key, delivery):
        """Say *key* of *delivery*, which is not to be worked on any more; return the future."""
        offset, lease = delivery.offset, delivery.lease
        self._held.release(offset, lease)
        return self._acks.add(key, offset, offset + 1, lease.token, self.member)

    def extend(self, key, delivery):
        """Say *key* of *delivery*, which is to be worked on for longer; return the future."""
        self._patient_until = max(self._patient_until, monotonic() + key[1])
        return self._acks.add(key, delivery.offset, delivery.offset + 1, delivery.token, self.member)

    def is_ours(self, delivery):
        """Whether it was not delivered again since, and its lease has not run out. May be asked in any thread."""
        return self._held.get(delivery.offset) is delivery.lease and monotonic() < delivery.lease.ends_at

    def take_ahead(self):
        """Return the next delivery, None at the end, for another thread, which gives it to the program later."""
        return self._take(None, ahead=True)

    def hand_on(self, delivery):
        """Take note that the program has been given a delivery that was taken ahead."""
        self._arrived.hand_on(delivery.offset, delivery.lease)
        self._patient_until = max(self._patient_until, monotonic() + delivery.lease.wait_s)

    # --- from parcels to deliveries -------------------------------------------------------

    def _take(self, deadline, ahead=False):
        """Return the next delivery, None at the end. Waits until *deadline*."""
        now = monotonic()
        if now - self._turn_at > _TURN_S:
            gevent.idle(2)      # polls, unlike sleep(0)
            now = self._turn_at = monotonic()
        while not self._stopped:
            delivery = self._hand_out(now, ahead)
            if delivery is not None:
                return delivery
            if self._outcome is not None:
                if self._outcome[0] is not None:
                    raise again(self._outcome[0])
                break
            with self._reading(deadline):
                if self._arrived.is_empty and not (self._outcome or self._stopped):
                    self._step(deadline)
            now = self._turn_at = monotonic()
        return None

    def _hand_out(self, now, ahead):
        """Return the next delivery of what is here, None if there is none."""
        while True:
            found = self._arrived.next(self._held, now)
            if found is not None:
                message, lease = found
                if ahead:
                    self._arrived.take_ahead(message.offset, lease)
                else:
                    self._patient_until = max(self._patient_until, now + lease.wait_s)
                return Delivery(message, lease, self)
            if not self._arrived:
                return None
            self._open_next()

    def _open_next(self):
        """Get the next batch ready to be handed out, or show a control, which may raise GapError."""
        self._channels.check_owner()
        control = self._arrived.open(self._broken)
        if control is None:
            return
        if control.get("control") == "gap":
            self._tell_gap(control)
        elif self._on_control is not None:
            self._on_control(control)

    def _step(self, deadline):
        self._changed.clear()
        if not self._changed.wait(remaining_s(deadline)):
            raise RequestTimeout("No message came in time.")

    def _drop(self):
        self._arrived.clear()
        self._held.clear()
        if self._renewal is not None:
            self._renewal.stop()

    # --- what comes ------------------------------------------------------------------------

    def _look_soon(self):
        if not self._looking:
            self._looking = True
            self._loop.run_callback(self._look)

    def _look(self):
        """Take all that the stream has, and its end."""
        self._looking = False
        try:
            while self._outcome is None and self._take_next(self._stream):
                pass
        except Exception as error:      # a bug, here or in the server: the reader must hear of it, not the hub
            logger.exception("consumer %r: what came cannot be taken", self.consumer)
            self._finish(InternalError(f"What the server sent cannot be taken: {error}."))
        self._changed.set()
        if self._tell is not None:
            self._tell()

    def _take_next(self, stream):
        item = stream.receive()
        if item is not NOTHING:
            count = len(self._arrived)
            self._take_item(stream, item)
            self._file(stream, item, count)
        elif stream.ended is not None:
            self._take_end(stream.ended, stream.refused)
        else:
            return False
        return True

    def _file(self, stream, item, count):
        """Have the credit for *item* given back with the last of the parcels that came of it."""
        if len(self._arrived) > count:
            self._arrived.charge(stream, size_of(item))
        else:
            stream.give_back(0)

    def _take_parts(self, parts):
        lease, came, now = None, [], monotonic()
        for part in parts:
            if type(part) is dict:
                lease = self._lease_of(part, now)
            elif lease is None:
                raise TypeError("a batch without a token")
            else:
                came.append((lease, self._batch_of(part)))
        for lease, batch in came:
            self._held.take(batch, lease)
        self._arrived.put(came)

    def _meet_damage(self, batch):
        if batch.first not in self._broken:     # sent again, it may be whole
            batch.verify()
        batch.verified_messages()       # raises if they cannot even be counted

    def _lease_of(self, fields, now):
        token, delivery, wait_s = fields.get("token"), fields.get("delivery"), fields.get("ack_wait_s", self.ack_wait_s)
        if type(token) is not int or type(delivery) is not int or type(wait_s) not in (int, float):
            raise TypeError("a hand-out without a token")
        return Lease(token, delivery, wait_s, now)

    def _take_control(self, control):
        kind = control.get("control")
        if kind == "subscribed":
            self._greet(control)
        why = control.get("why") if kind == "paused" else control.get("paused")
        if why and self._on_control is None:
            logger.warning("consumer %r is paused: %s", self.consumer, why)
        if kind == "gap" or self._on_control is not None:
            self._arrived.put([(None, control)])

    def _greet(self, greeting):
        left = self.id
        if not super()._greet(greeting):
            return False
        self._unsubscribe(self._channels, left)     # the server may not know yet: what was on its way goes to others
        self.max_in_flight = greeting.get("max_in_flight")
        self.ack_wait_s = greeting.get("ack_wait_s", self.ack_wait_s)
        self._held.keep(greeting.get("held") or ())
        if self._renewal is None:
            self._renewal = Renewal(self._channels, self, self.ack_wait_s)
        return True

    # --- beginnings and ends -----------------------------------------------------------------

    def _request(self):
        if self.id is None:
            return self._patterns, dict(self._options, **self._channels.format)
        # Not the settings: somebody may have changed them since.
        options = {name: self._options[name] for name in _OF_MEMBER if name in self._options}
        held = self._held.pairs().union(self._acks.unsettled(self.member))
        return None, dict(options, held=sorted(held), **self._channels.format)

    def _finish(self, error):
        super()._finish(error)
        self._drop()

    def _farewell(self, stream):
        return partial(gevent.spawn, _leave, self._acks, super()._farewell(stream))

    # --- leases ------------------------------------------------------------------------------

    def renew(self):
        """Renew the leases that are to stay ours; return whether to come again."""
        now, held = monotonic(), self._held
        if self._outcome is not None:
            return False
        if self.working:
            ours = list(held)
        elif now < self._patient_until:
            ours = [offset for offset, lease in self._arrived.leases() if held.get(offset) is lease]
        else:
            ours = []       # the program has stopped taking messages: let others have them
        if self._channels.is_up:
            for lease, ranges in held.ending(ours, now).items():
                for first, next, token in merged(ranges):
                    said = self._acks.add(extend(lease.wait_s), first, next, token, self.member)
                    said.asked = True       # if it fails, the lease ends as it would have
                    said.rawlink(partial(_renewed, lease, now + lease.wait_s))
        return True


def new_member():
    """Return a name that no other member has, and that says where to find this one."""
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"


def _renewed(lease, until, said):
    if said.successful():
        lease.ends_at = until


def _leave(acks, let_go):
    acks.flush(_GOODBYE_S)
    let_go()
