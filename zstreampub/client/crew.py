"""Greenlets that take deliveries, call the program's callback with each, and say what became of it."""

import logging

import gevent

from ..errors import GapError, InvalidOption, UndecodablePayload
from ..payload import Undecodable

logger = logging.getLogger(__name__)


class Crew:
    """Works on the deliveries of *consumption*; what the arguments mean says ``Consumption.run``."""

    def __init__(self, consumption, callback, on_exception, keep_extending):
        self._consumption = consumption
        self._callback = callback
        self._on_exception = on_exception
        self._keep_extending = bool(keep_extending)
        self._idle = set()          # workers that wait for a message
        self._stopped = False

    def run(self, workers):
        """Work with that many greenlets until the consumption is closed. Raises what stops one of them."""
        if type(workers) is not int or workers < 1:
            raise InvalidOption(f"workers is a number from 1, not {workers!r:.60}.", option="workers")
        if workers == 1:
            self._work()
            return
        crew = [gevent.spawn(self._outcome) for _ in range(workers)]
        try:
            for done in gevent.iwait(crew):
                if done.value is not None:
                    self._stop()
                    gevent.joinall(crew)
                    raise done.value
        except BaseException:
            gevent.killall(crew)        # if it was us who are to stop; they give back what they have
            raise

    def _stop(self):
        """Let nobody take another message; those who work on one finish it."""
        self._stopped = True
        gevent.killall(list(self._idle))

    def _outcome(self):
        """Return what stopped this worker, None for the end: ``run`` raises it, and the hub need not tell it too."""
        try:
            self._work()
        except BaseException as error:
            return error
        return None

    def _work(self):
        me = gevent.getcurrent()
        self._idle.add(me)
        for delivery in self._deliveries():
            self._idle.discard(me)
            self._handle(delivery)
            if self._stopped:
                return
            self._idle.add(me)

    def _deliveries(self):
        """Yield deliveries; a gap that nobody wants to be told is logged, for the work must go on."""
        while True:
            try:
                yield from self._consumption
                return
            except GapError as gap:
                logger.warning("consumer %r: %s", self._consumption.consumer, gap)

    def _handle(self, delivery):
        consumption = self._consumption
        consumption.working += self._keep_extending
        try:
            if type(delivery.payload) is Undecodable:
                raise UndecodablePayload.of(delivery)
            self._callback(delivery)
        except Exception as error:
            self._settle_failed(delivery, error)
        except BaseException:
            delivery.nack(delay_s=0, reason="The worker was stopped.")
            raise
        else:
            delivery.ack()
        finally:
            consumption.working -= self._keep_extending

    def _settle_failed(self, delivery, error):
        reason = f"{type(error).__name__}: {error}"
        verdict = None
        try:
            verdict = self._judge(delivery, error)
        finally:
            if verdict == "reject":
                delivery.reject(reason)
            else:
                delivery.nack(reason=reason)
        if verdict == "stop":
            raise error

    def _judge(self, delivery, error):
        # A payload that cannot be decoded will not be so the next time: a dead letter, which can be redriven.
        default = "reject" if type(delivery.payload) is Undecodable else "nack"
        if self._on_exception is None:
            self._log(delivery, error, default)
            return default
        verdict = self._on_exception(error, delivery) or default
        if verdict not in ("nack", "reject", "stop"):
            raise InvalidOption(f"on_exception returns 'nack', 'reject', 'stop' or None, not {verdict!r:.60}.",
                                option="on_exception")
        return verdict

    def _log(self, delivery, error, verdict):
        name = self._consumption.consumer
        if verdict == "reject":
            logger.warning("consumer %r: %s It becomes a dead letter", name, error)
        else:
            logger.warning("consumer %r: the callback failed with %r, which is given back", name, delivery,
                           exc_info=error)
