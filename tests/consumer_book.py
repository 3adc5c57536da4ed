"""The book about one durable consumer: what was seen of it, checked against what is promised, and nothing else.

Written from the contract (docs/protocol.rst), not from the code. Each wanted message is in exactly one
state; whatever is observed (a hand-out, an answer, a dead letter, a gap) moves it or is a fault.
Where the promise leaves open what happened (an ack whose answer was lost in a crash), so does the book.
"""

NEW, OUT, BACK, ACKED, DEAD, GONE, OUTSIDE = "new", "out", "back", "acked", "dead", "gone", "outside"
UNSETTLED = (NEW, OUT, BACK)
FAR = float("inf")
RETRY_S = 1.0
FLAGS = ("hidden", "unsure", "removed", "dropped", "rejected", "released", "told")


class Wanted:
    """One wanted message. ``tokens`` are those under which it was seen, the newest last.

    ``lease`` is until when a member has it, ``due`` the time before which it may not, ``late`` the time from
    which on it must be handed out again. ``removed``: it is not in the log any more; ``dropped``: that was while
    somebody had it. ``hidden``: hand-outs may have been made that nobody saw. ``unsure``: it may be settled.
    ``asked``: unanswered calls that settle it. ``released``: whoever has it did not count on having it any more.
    ``told``: nobody may be told (again) that it will not come.
    """

    def __init__(self, offset, key, payload, expires):
        self.offset, self.key, self.payload, self.expires = offset, key, payload, expires
        self.state = NEW
        self.delivery = 0
        self.tokens = []
        self.holder = None
        self.lease = self.due = self.late = 0.0
        for name in FLAGS:
            setattr(self, name, False)
        self.asked = []
        self.said_at = self.extended_at = 0     # the step in which something was said of it
        self.settled_by = None

    def __repr__(self):
        return (f"<{self.offset} key {self.key} {self.state} delivery {self.delivery} tokens {self.tokens} at "
                f"{self.holder and self.holder.name} lease {self.lease} due {self.due}-{self.late}"
                + "".join(f" {name}" for name in FLAGS if getattr(self, name))
                + "".join(f" {ticket.verb} asked" for ticket in self.asked) + ">")

    @property
    def unsettled(self):
        return self.state in UNSETTLED

    def give_back(self, due, late):
        """Wait for the next delivery, not before *due* and from *late* on at any time."""
        self.state, self.holder, self.due, self.late = BACK, None, due, late


class Ticket:
    """One call that settles or extends: what is asked, and of each delivery whether it must be accepted."""

    def __init__(self, verb, entries, at, option):
        self.verb, self.entries, self.at, self.option = verb, entries, at, option
        self.must = {}          # offset -> True: must count; False: must be stale; None: either
        self.deliveries = {}    # offset -> the number that was the newest then


class Book:
    """Everything seen so far; each method is one observation and raises AssertionError if it must not be."""

    def __init__(self, settings, grace_s):
        self.mode = settings["mode"]
        self.settings = settings
        self.grace_s = grace_s
        self.now = 0.0
        self.step = 0           # counts the calls
        self.paused = False
        self.wanted = {}        # offset -> Wanted
        self.workers = []       # in the order in which they joined
        self.tokens = {}        # token -> (worker, delivery)
        self.newest_token = self.token_floor = -1
        self.letters = {}       # offset of a dead letter -> offset of its origin
        self.cursor = self.floor = 0
        self.opened = -FAR      # when the broker was opened after a crash
        self.graced = -FAR      # when it was noticed that leases from before are over
        self.patient_until = -FAR
        self.active = None      # of an exclusive consumer: who was given something last

    # --- the log ---------------------------------------------------------------------

    def committed(self, offset, key, payload, expires):
        self.wanted[offset] = Wanted(offset, key, payload, expires)

    def removed(self, offsets):
        """These were trimmed; what is not settled of them must be told."""
        for offset in offsets:
            one = self.wanted[offset]
            one.dropped = one.dropped or (not one.removed and one.state in (OUT, BACK))
            one.removed = True

    def died(self, letter, origin, reason, deliveries, key, payload):
        """There is a dead letter in the log."""
        one = self.wanted[origin]
        assert one.unsettled or one.unsure, f"dead letter {letter} of what is settled: {one}"
        assert (key, payload) == (one.key, one.payload), f"dead letter {letter} is not {one}"
        if reason == "rejected":
            assert one.rejected, f"nobody rejected {one}"
        elif reason == "expired":
            assert self.settings["expired"] == "dead" and self._expired(one), f"not expired: {one}"
        else:
            most = self.settings["max_deliveries"]
            assert reason == "max_deliveries" and most, f"dead for {reason}: {one}"
            assert deliveries == most and (one.delivery == most or one.hidden), f"{deliveries} deliveries: {one}"
            assert not self._is_held(one) or one.asked, f"died while somebody had it: {one}"
        one.state, one.holder, one.unsure = DEAD, None, False
        self.letters[letter] = origin

    # --- members ---------------------------------------------------------------------

    def joined(self, worker, held, asked_at, step):
        """There is a member; of what it claimed when it asked at *asked_at*, in *step*, it has got *held*."""
        self.workers.append(worker)
        others = [other for other in self.workers if other not in (worker, worker.before)]
        for offset, token in held:
            one = self.wanted[offset]
            assert one.tokens and one.tokens[-1] == token, f"{worker.name} may not claim {one} by {token}"
            assert not (one.holder in others and self._is_held(one)), f"{worker.name} claimed {one}"
            if one.said_at > step:      # and who knows which came first
                one.due, one.late = 0.0, max(one.late, self.now + self.settings["ack_wait_s"])
            elif one.unsettled and not one.asked:
                lease = asked_at + self.settings["ack_wait_s"]
                one.lease = min(one.lease, lease) if one.extended_at > step else lease
                one.state, one.holder = OUT, worker
                one.late = max(one.late, self.now + self.settings["ack_wait_s"])

    def refused(self, held):
        """A join failed for the disk: what it claimed waits again."""
        for offset, _ in held:
            one = self.wanted[offset]
            if one.unsettled and not one.asked:
                one.give_back(0.0, self.now)
                one.hidden = True

    def left(self, worker):
        """A member is gone: what it had is given back at once."""
        self.workers.remove(worker)
        self._lose_gaps()
        for one in self.wanted.values():
            if one.unsettled and one.holder is worker:
                one.give_back(self.now if self._is_held(one) else 0.0, self._late_after(one))
        self.disturb()

    def disturb(self):
        """Something happened by which a hand-out that nobody saw may be lost, and its number used."""
        for one in self.wanted.values():
            if one.unsettled:
                one.hidden = True

    def failed(self):
        """The disk has refused something: it is tried again a little later."""
        self.patient_until = self.now + RETRY_S
        self.disturb()

    def crashed(self):
        """The broker is gone with all members and all unanswered calls; another was opened."""
        self.workers.clear()
        self._lose_gaps()
        self.opened, self.graced = self.now, FAR
        self.cursor = self.floor = 0        # that it went over what nobody is given need not be on disk
        self.token_floor = self.newest_token
        for one in self.wanted.values():
            asked, one.asked = one.asked, []
            if one.state == GONE:
                one.state = NEW         # it may be told again
            elif asked and one.unsettled:
                one.unsure = True
                one.give_back(0.0, self.now + self.grace_s)
            elif one.state == OUT and one.holder is None:
                one.give_back(0.0, self._late_after(one))
            elif one.state == OUT:
                one.lease = min(one.lease, self.now + self.grace_s)
                one.late = one.lease
        self.disturb()

    def _lose_gaps(self):
        """A gap that was told to a member may have gone with it."""
        for one in self.wanted.values():
            if one.state == GONE or (one.unsettled and self._excused(one)):
                one.told = True

    def _late_after(self, one):
        """From when on a message whose member is gone is to be had: it may be one whose time was up before."""
        return max(self.now, self._lapse(one)[1]) if self.now >= one.lease else self.now

    def advanced(self, now):
        for one in self.wanted.values():
            if one.state == OUT and self.now < one.lease <= now:
                one.late = max(one.late, now)       # only now it can be noticed
        if self.now < self.opened + self.grace_s <= now:
            self.graced = now
        self.now = now
        self.disturb()

    # --- hand-outs -------------------------------------------------------------------

    def handed(self, worker, offset, delivery, token, deadline):
        """*worker* was given a message."""
        one = self.wanted.get(offset)
        assert one is not None, f"{offset} was not asked for"
        assert one.unsettled, f"{worker.name} was given what is settled: {one}"
        for ticket in one.asked:
            assert not ticket.must[offset], f"{worker.name} was given what is being settled: {one}"
            ticket.must[offset] = False     # it came too late
        assert not self._is_held(one), f"{worker.name} was given what another has: {one}"
        assert self.now >= one.due, f"{worker.name} was given at {self.now} what is not due: {one}"
        if one.state == OUT:
            assert self.now >= self._lapse(one)[0], f"{worker.name} was given at {self.now} before the backoff: {one}"
        assert delivery > one.delivery, f"delivery {delivery} of {one}"
        assert delivery == one.delivery + 1 or one.hidden, f"delivery {delivery} skips numbers: {one}"
        assert not self.settings["max_deliveries"] or delivery <= self.settings["max_deliveries"], f"too often: {one}"
        self._check_token(worker, token, delivery, one)
        self._check_order(worker, one)
        one.tokens.append(token)
        one.state, one.holder, one.delivery, one.lease, one.hidden = OUT, worker, delivery, deadline, False
        one.unsure = one.dropped = one.released = False
        has = [one for one in self._had_by(worker) if self.now < one.lease and not one.released]
        assert len(has) <= worker.max_in_flight, f"{worker.name} has more than {worker.max_in_flight}: {has}"

    def _check_token(self, worker, token, delivery, one):
        assert self.tokens.setdefault(token, (worker, delivery)) == (worker, delivery), f"token {token} came again"
        assert token > self.token_floor and token > max(one.tokens, default=-1), f"token {token} is old: {one}"
        self.newest_token = max(self.newest_token, token)

    def _check_order(self, worker, one):
        if self.mode == "exclusive" and worker in self.workers:
            assert worker is self._active(worker), f"{worker.name} stands by, but was given {one}"
            self.active = worker
        if self.mode == "key_ordered" and one.key is not None:
            for other in self.wanted.values():
                if other.key != one.key or other is one or not other.unsettled or self._excused(other):
                    continue
                if other.offset < one.offset and other.unsure:
                    other.state = ACKED     # or the order is broken if it comes again
                    continue
                assert other.offset > one.offset and other.state == NEW, f"{one} was given before {other}"

    def _active(self, otherwise):
        """Return the one that works, *otherwise* where nobody can know who was the first to join."""
        if self.active in self.workers:
            return self.active
        return otherwise if any(one.overlaps for one in self.workers) else self.workers[0]

    def gap(self, first, next, count, why):
        """A member was told that messages will not come."""
        lost = [one for offset, one in self.wanted.items() if first <= offset < next and one.unsettled
                and (one.removed if why == "retention" else self._expired(one))]
        assert why in ("retention", "expired"), why
        for one in lost:
            one.state, one.holder = GONE, None

    def _had_by(self, worker):
        """Return what takes up the room of *worker*, as far as anybody can know."""
        return [one for one in self.wanted.values() if one.holder is worker and one.state == OUT
                and self.now < max(one.lease, one.late) and not (one.asked or one.dropped)]

    # --- calls -----------------------------------------------------------------------

    def asked(self, verb, entries, option=None):
        """Somebody calls *verb* for *entries*, ``(offset, token or None)``; return the Ticket for the answer."""
        ticket = Ticket(verb, entries, self.now, option)
        self.step += 1
        for offset, token in entries:
            one = self.wanted[offset]
            if verb == "extend":
                one.extended_at = self.step
            else:
                one.said_at = self.step
            ticket.must[offset] = self._must(one, token)
            ticket.deliveries[offset] = one.delivery
            if ticket.must[offset] is False:
                continue
            if verb == "extend":
                one.lease = min(one.lease, self.now + option)
                one.released = one.released or not ticket.must[offset]      # it may come back to a member that is full
                continue
            one.rejected = one.rejected or verb == "reject"
            if verb == "nack" and one.unsettled:
                one.give_back(0.0, FAR)
            elif one.unsettled:
                one.asked.append(ticket)
                one.released = True     # for whoever had it, also if the answer will be that it failed
        return ticket

    def _must(self, one, token):
        newest = one.tokens[-1] if one.tokens else None
        if token is not None and newest is not None and token < newest:
            return False
        if one.state == ACKED and one.settled_by is not None and token not in (None, one.settled_by):
            return False
        is_newest = token == newest or token is None
        if one.state == OUT and one.holder in self.workers and self._is_held(one) and is_newest and not one.removed \
                and not one.asked:
            return True
        return None

    def answered(self, ticket, count, stale, failed):
        """The answer: how many counted, the offsets that were refused, or that all *failed*."""
        least = most = 0
        for offset, token in ticket.entries:
            one, must = self.wanted[offset], ticket.must[offset]
            if ticket in one.asked:
                one.asked.remove(ticket)
            if failed:
                self._undo(one, ticket)
                continue
            assert not (must and offset in stale), f"{ticket.verb} by {token} was refused: {one}"
            assert must is not False or offset in stale, f"{ticket.verb} by the old {token} was taken: {one}"
            least += must is True
            most += offset not in stale
            if offset not in stale:
                self._take(one, ticket, token)
            elif one.state == BACK and ticket.verb == "nack":
                one.late = max(self.now, ticket.at) + self.settings["ack_wait_s"] + self._backoff(one.delivery)[1]
        assert failed or least <= count <= most, f"{ticket.verb} counted {count}, not {least} to {most}"

    def _undo(self, one, ticket):
        if ticket.verb in ("ack", "reject"):
            one.unsure = one.unsettled      # the caller cannot know
            if one.holder is None or one.state != OUT:
                return
        if ticket.verb == "nack" and one.state == BACK and one.late == FAR:
            one.late = self.now + self.settings["ack_wait_s"] + self._backoff(one.delivery)[1]
        one.hidden = True

    def _take(self, one, ticket, token):
        newer = one.delivery != ticket.deliveries[one.offset]
        if ticket.verb == "ack" and one.unsettled:
            assert not newer, f"an ack was answered, and the message had come again: {one}"
            one.state, one.holder = ACKED, None
            one.settled_by = token
        elif ticket.verb == "reject":
            assert not one.unsettled or one.removed or one.unsure, f"rejected, but no dead letter: {one}"
            if one.unsettled and one.unsure:
                one.state, one.holder = ACKED, None     # before the crash
        elif ticket.verb == "nack" and one.state == BACK and not newer:
            low, high = self._backoff(one.delivery) if ticket.option is None else (ticket.option, ticket.option)
            one.due, one.late = ticket.at + low, max(ticket.at + high, self.now)
        elif ticket.verb == "extend" and one.state == OUT and not newer:
            one.lease = ticket.at + ticket.option
            one.late = max(one.lease, self.now)
        elif ticket.verb == "extend" and one.state == BACK and not newer:
            one.late = max(one.late, ticket.at + ticket.option)     # whoever gave it back has it again

    # --- steering --------------------------------------------------------------------

    def sought(self, cursor):
        """The consumer goes on at *cursor*: what was there before is forgotten."""
        for one in self.wanted.values():
            one.state = NEW if one.offset >= cursor else OUTSIDE
            if one.removed:
                one.state = OUTSIDE
            one.delivery, one.holder, one.asked, one.due, one.late, one.settled_by = 0, None, [], 0.0, 0.0, None
            one.unsure = one.rejected = False
            one.hidden = True
        self.cursor = self.floor = cursor

    # --- what follows ----------------------------------------------------------------

    def _expired(self, one):
        return one.expires is not None and self.now >= one.expires

    def _excused(self, one):
        return one.removed or self._expired(one)

    def _is_held(self, one):
        return one.state == OUT and one.holder is not None and self.now < one.lease

    def _backoff(self, delivery):
        """Return the least and the most that the backoff after that many deliveries can be."""
        delays, jitter = self.settings["backoff_s"], self.settings["jitter"]
        if not delays:
            return 0.0, 0.0
        delay = max(delays) if delivery == FAR else delays[min(max(delivery, 1), len(delays)) - 1]
        return delay * (1 - jitter), delay * (1 + jitter)

    def _lapse(self, one):
        """Return when the message may and when it must come again, if its lease is left to lapse."""
        low, high = self._backoff(one.delivery)
        return one.lease + low, max(one.lease, one.late) + high

    def must_be_out(self):
        """Return the messages that somebody should have been given, when all has been done that can be done."""
        workers = self.workers
        if self.mode == "exclusive" and workers:
            workers = [one for one in workers if one is self._active(one)]
        if self.paused or self.now < self.patient_until:
            return []
        room = [len(self._had_by(one)) < one.max_in_flight for one in workers]
        if not any(room) or (self.mode == "exclusive" and not all(room)):
            return []
        graceful = self.now < self.opened + self.grace_s
        pending, overdue = sum(one.state in (OUT, BACK) or (one.state == NEW and one.hidden and graceful)
                               for one in self.wanted.values()), []
        for one in self.wanted.values():
            late = {NEW: 0.0, BACK: one.late, OUT: self._lapse(one)[1]}.get(one.state, FAR)
            if one.hidden:      # it may have been handed out before the crash, and then it lapses
                late = max(late, self.graced + self._backoff(FAR)[1])
            if self._is_blocked(one):
                pending += one.state == NEW     # it waits for another, and room is kept for it
            elif late > self.now or self._excused(one) or one.unsure or one.asked or self._is_last(one):
                continue
            elif one.state != NEW or pending < self.settings["max_pending"]:
                overdue.append(one)
        return overdue

    def _is_last(self, one):
        most = self.settings["max_deliveries"]
        return most and (one.delivery >= most or one.hidden)

    def _is_blocked(self, one):
        return self.mode == "key_ordered" and one.key is not None and any(
            other.key == one.key and other.offset < one.offset and other.unsettled for other in self.wanted.values())
