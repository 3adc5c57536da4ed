"""The book about one durable consumer: what was seen of it, checked against what is promised, and nothing else.

Written from the contract (docs/protocol.rst), not from the code. Each wanted message is in exactly one
state; whatever is observed (a hand-out, an answer, a dead letter, a gap) moves it or is a fault.
Where the promise leaves open what happened (an ack whose answer was lost in a crash), so does the book.
"""

from tests.consumer_unseen import UNSEEN, Unseen
from tests.consumer_wanted import ACKED, BACK, DEAD, FAR, GONE, NEW, OUT, OUTSIDE, Ticket, Wanted

RETRY_S = 1.0       # what the disk has refused is tried again after so long


class Book(Unseen):
    """Everything seen so far; each method is one observation and raises AssertionError if it must not be."""

    def __init__(self, mode, settings, grace_s):
        self.mode = mode
        self.settings = settings
        self.grace_s = grace_s
        self.now = 0.0
        self.step = 0           # counts the calls
        self.paused = False     # and everything has been taken that was handed out before
        self.come = None        # how many have come so far, if nobody is about to be given something or a member
        self.wanted = {}        # offset -> Wanted
        self.workers = []       # in the order in which they joined
        self.active = None      # of an exclusive consumer: who was given something last
        self.tokens = {}        # token -> (worker, delivery)
        self.newest_token = self.token_floor = -1
        self.letters = {}       # offset of a dead letter that is not settled -> offset of its origin
        self.cursor = self.floor = 0
        self.cursor_life = 0    # counts the seeks
        self.given_up = self.lapsed = -FAR      # when somebody left what was handed out, and when that was over
        self.opened = self.graced = -FAR        # when it was opened after a crash; when leases from before were over
        self.patient_until = -FAR

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
            assert self.settings["expired"] == "dead" and one.is_expired(self.now), f"not expired: {one}"
        else:
            most = self.settings["max_deliveries"]
            assert reason == "max_deliveries" and most, f"dead for {reason}: {one}"
            assert deliveries == most and (one.delivery == most or one.hidden), f"{deliveries} deliveries: {one}"
            assert not one.is_held(self.now) or one.asked, f"died while somebody had it: {one}"
            self._check_burial(one)
        one.settle(DEAD)
        self.letters[letter] = origin

    # --- members ---------------------------------------------------------------------

    def joined(self, worker, held, asked_at, step):
        """There is a member; of what it claimed when it asked at *asked_at*, in *step*, it has got *held*."""
        self.workers.append(worker)
        others = [other for other in self.workers if other not in (worker, worker.before)]
        for offset, token in held:
            one = self.wanted[offset]
            assert one.tokens and one.tokens[-1] == token, f"{worker.name} may not claim {one} by {token}"
            assert not (one.holder in others and one.is_held(self.now)), f"{worker.name} claimed {one}"
            assert one.unseen is None or one.unseen_at > step, f"{worker.name} claimed what was given back: {one}"
            if one.said_at > step:      # and who knows which came first
                one.due, one.late = 0.0, max(one.late, self.now + self.settings["ack_wait_s"])
            elif one.unsettled and not one.asked:
                lease = asked_at + self.settings["ack_wait_s"]
                one.lease = min(one.lease, lease) if one.extended_at > step else lease
                one.state, one.holder, one.due = OUT, worker, 0.0
                one.late = max(one.late, self.now + self.settings["ack_wait_s"])

    def refused(self, held):
        """A join failed for the disk: what it claimed waits again."""
        for offset, _ in held:
            one = self.wanted[offset]
            if one.unsettled:       # also what somebody settles meanwhile, if that fails
                one.give_back(0.0, self.now)
                one.hidden = True

    def left(self, worker):
        """A member is gone: what it had is given back at once."""
        self.workers.remove(worker)
        self._lose_gaps()
        for one in self.wanted.values():
            if one.unsettled and one.holder is worker:
                one.give_back(self.now if one.is_held(self.now) else 0.0, self._late_after(one))
        self.disturb()

    def disturb(self):
        """Something happened by which a hand-out that nobody saw may be lost, and its number used."""
        for one in self.wanted.values():
            if one.unsettled:
                one.hidden = True

    def gave_up(self):
        """Somebody did not wait for what a fetch brings; it may have a lease all the same."""
        self.given_up, self.lapsed = self.now, FAR
        for one in self.wanted.values():
            if one.state == BACK:
                one.due = 0.0       # it may have been on its way, and is given back at once
        self.disturb()

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
                # An ack may be on disk; a reject that is left a letter, which has been seen.
                one.unsure = one.unsure or any(ticket.verb == "ack" for ticket in asked)
                if one.state != NEW:
                    one.give_back(0.0, self.now + self.grace_s)
            elif one.giving and one.state == BACK:
                one.give_back(0.0, self.now + self.grace_s)
            elif one.state == OUT and one.holder is None:
                one.give_back(0.0, self._late_after(one))
            elif one.state == OUT:
                one.lease = one.late = min(one.lease, self.now + self.grace_s)
            one.perhaps, one.giving = one.perhaps or bool(one.giving), []
        self.disturb()

    def advanced(self, now):
        for one in self.wanted.values():
            if one.state == OUT and self.now < one.lease <= now:
                one.late = max(one.late, now)       # only now it can be noticed
        if self.now < self.opened + self.grace_s <= now:
            self.graced = now
        if self.now < self.given_up + self.settings["ack_wait_s"] <= now:
            self.lapsed = now
        self.now = now
        self.disturb()

    def _lose_gaps(self):
        """A gap that was told to a member may have gone with it."""
        for one in self.wanted.values():
            if one.state == GONE or (one.unsettled and one.is_excused(self.now)):
                one.told = True

    def _late_after(self, one):
        """From when on a message whose member is gone is to be had: it may be one whose time was up before."""
        return max(self.now, self._lapse(one)[1]) if self.now >= one.lease else self.now

    # --- hand-outs -------------------------------------------------------------------

    def handed(self, worker, message, delivery, token, lease):
        """*worker* was given a message, until *lease*."""
        one = self.wanted.get(message.offset)
        assert one is not None, f"{message.offset} was not asked for"
        assert (message.key, message.payload) == (one.key, one.payload), f"{message} is not {one}"
        # What was told to be lost may come all the same from memory after a seek, for that told nothing of it.
        assert one.unsettled or (one.state == GONE and one.told and one.removed), (
            f"{worker.name} was given what is settled: {one}")
        assert not self.paused, f"{worker.name} was given {one} by a paused consumer"
        for ticket in one.asked:
            assert not ticket.must[one.offset], f"{worker.name} was given what is being settled: {one}"
            if not ticket.vague:
                ticket.must[one.offset] = False     # it came too late
        assert not worker.leaves, f"{worker.name} is about to leave, but was given {one}"
        self._check_time(worker, one)
        self._check_number(delivery, one)
        self._check_token(worker, token, delivery, one)
        self._check_order(worker, one)
        one.tokens.append(token)
        one.state, one.holder, one.delivery, one.lease = OUT, worker, delivery, lease
        one.number, one.unseen, one.giving, one.due = delivery, None, [], 0.0
        one.hidden = one.dropped = one.perhaps = False
        one.released, one.recalls = bool(one.recalls), []
        one.unsure = one.vaguely
        has = [one for one in self.had_by(worker) if self.now < one.lease and not one.released]
        assert len(has) <= worker.max_in_flight, f"{worker.name} has more than {worker.max_in_flight}: {has}"

    def _check_time(self, worker, one):
        assert not one.is_held(self.now), f"{worker.name} was given what another has: {one}"
        if worker.by_offset:
            return      # who asks for the very message need not wait for its backoff
        assert self.now >= one.due, f"{worker.name} was given at {self.now} what is not due: {one}"
        if one.state == OUT:
            assert self.now >= self._lapse(one)[0], f"{worker.name} was given at {self.now} before the backoff: {one}"

    def _check_number(self, delivery, one):
        most = self.settings["max_deliveries"]
        assert delivery >= self._may_come_as(one), f"delivery {delivery} of {one}"
        assert delivery <= one.delivery + 1 or one.hidden, f"delivery {delivery} skips numbers: {one}"
        assert not most or delivery <= most, f"too often: {one}"

    def _check_token(self, worker, token, delivery, one):
        assert self.tokens.setdefault(token, (worker, delivery)) == (worker, delivery), f"token {token} came again"
        assert token > self.token_floor and token > max(one.tokens, default=-1), f"token {token} is old: {one}"
        self.newest_token = max(self.newest_token, token)

    def _check_order(self, worker, one):
        if self.mode == "exclusive" and worker in self.workers:
            assert self.is_active(worker), f"{worker.name} stands by, but was given {one}"
            self.active = worker
        if self.mode == "key_ordered" and one.key is not None:
            for other in self.wanted.values():
                if other.key != one.key or other is one or not other.unsettled or other.is_excused(self.now):
                    continue
                if other.offset < one.offset and other.unsure:
                    other.settle(ACKED)     # or the order is broken if it comes again
                    continue
                assert other.offset > one.offset and other.state == NEW, f"{one} was given before {other}"

    def is_active(self, worker):
        """Whether *worker* may be the one that works."""
        if self.active in self.workers:
            return worker is self.active
        return worker is self.workers[0] or any(one.overlaps for one in self.workers)

    def gap(self, first, next, why):
        """A member was told that messages will not come."""
        assert why in ("retention", "expired"), why
        for offset, one in self.wanted.items():
            if first <= offset < next and one.unsettled and (
                    one.removed if why == "retention" else one.is_expired(self.now)):
                one.settle(GONE)

    def had_by(self, worker):
        """Return what takes up the room of *worker*, as far as anybody can know."""
        return [one for one in self.wanted.values() if one.holder is worker and one.state == OUT
                and self.now < max(one.lease, one.late) and not (one.asked or one.dropped)]

    # --- calls -----------------------------------------------------------------------

    def asked(self, verb, entries, option=None, leaver=None):
        """Somebody calls *verb* for *entries*, ``(offset, token or None)``; return the Ticket for the answer.

        With UNSEEN, *leaver* is the worker that is said to leave: from now on, whatever the answer.
        """
        ticket = Ticket(verb, entries, self.now, option)
        ticket.leaver = leaver
        if leaver is not None:
            leaver.leaves = True
        return self._ask(ticket)

    def asked_before(self, offset):
        """Somebody acknowledges all that was delivered below *offset*; return the Ticket."""
        entries = [(one.offset, None) for one in self.wanted.values() if one.offset < offset and one.unsettled]
        return self._ask(Ticket("ack", entries, self.now, vague=True))

    def _ask(self, ticket):
        self.step += 1
        ticket.step = self.step
        for offset, token in ticket.entries:
            one = self.wanted[offset]
            must = ticket.must[offset] = self._must(one, token, ticket.verb)
            ticket.given[offset] = len(one.tokens)
            if must is False:
                continue
            if token is None and must is None and not ticket.vague:
                one.hidden = True       # it counts if a hand-out is on its way that nobody has seen
                one.recalls.append(ticket)
            if ticket.verb == UNSEEN:
                self._ask_unseen(one, ticket)
                continue
            if ticket.verb == "extend":
                one.extended_at = self.step
                one.lease = min(one.lease, self.now + ticket.option)
                one.released = one.released or not must     # it may come back to a member that is full
                continue
            one.said_at = self.step
            one.rejected = one.rejected or ticket.verb == "reject"
            if ticket.verb == "nack" and one.state == NEW:
                one.late = FAR
            elif ticket.verb == "nack" and one.unsettled:
                one.give_back(0.0, FAR)
            elif one.unsettled:
                one.asked.append(ticket)
                one.released = True     # for whoever had it, also if the answer will be that it failed
        ticket.alone = self.alone
        return ticket

    def _must(self, one, token, verb):
        newest = one.tokens[-1] if one.tokens else None
        if token is not None and newest is not None and token < newest:
            return False
        if token is not None and token == one.unseen:
            # What was perhaps rejected or trimmed may be done with: then its offset is known, and counts 0.
            return self._again(one) if verb == UNSEEN else None if one.removed or one.rejected else False
        if one.state == ACKED and one.settled_by is not None and token not in (None, one.settled_by):
            return False
        if one.unsure:
            return None
        is_there = one.is_held(self.now) and (one.holder in self.workers or one.holder.fetches)
        return True if is_there and token in (newest, None) and not one.removed and not one.asked else None

    def answered(self, ticket, count, stale, failed):
        """The answer: how many counted, the offsets that were refused, or that all *failed*."""
        least = most = 0
        for offset, token in ticket.entries:
            one, must = self.wanted[offset], ticket.must[offset]
            if ticket in one.asked:
                one.asked.remove(ticket)
            if ticket.verb == UNSEEN:
                self._unseen_answered(one, ticket, failed)
            if failed:
                self._undo(one, ticket)
                continue
            if ticket in one.recalls:
                one.recalls.remove(ticket)
            assert not (must and offset in stale), f"{ticket.verb} by {token} was refused: {one}"
            assert must is not False or offset in stale or ticket.vague, f"{ticket.verb} by old {token} counted: {one}"
            least += must is True
            most += offset not in stale
            if ticket.vague and not must:
                one.unsure = one.vaguely = one.unsettled
            elif offset not in stale:
                self._take(one, ticket, token)
            elif one.state in (NEW, BACK) and ticket.verb in ("nack", UNSEEN):
                one.late = max(self.now, ticket.at) + self.settings["ack_wait_s"] + self._backoff(one.delivery)[1]
        is_enough = least <= count and (count <= most or ticket.leaver)
        assert failed or is_enough, f"{ticket.verb} counted {count}, not {least} to {most}"

    def _undo(self, one, ticket):
        if ticket.verb == "ack":
            one.unsure = one.unsettled      # the caller cannot know
        elif ticket.verb == "reject" and one.unsettled and len(one.tokens) == ticket.given[one.offset]:
            if one.state == NEW:
                one.late = FAR      # if it was on its way, that has come to nothing
            else:
                one.give_back(0.0, FAR)
        if ticket.verb != "ack" and one.state in (NEW, BACK) and one.late == FAR:
            one.late = self.now + self.settings["ack_wait_s"] + self._backoff(one.delivery)[1]
        one.hidden = True

    def _take(self, one, ticket, token):
        if ticket.verb == UNSEEN:
            self._take_unseen(one, ticket, token)
            return
        newer = len(one.tokens) != ticket.given[one.offset]
        is_new = one.state == NEW and (not one.hidden or token in one.of_old)
        unseen = token is None and ticket.must[one.offset] is None      # so is the number of that delivery
        if ticket.verb == "ack" and one.unsettled and not is_new:
            assert not newer, f"an ack was answered, and the message had come again: {one}"
            one.settle(ACKED, token)
        elif ticket.verb == "reject" and not is_new:
            assert not one.unsettled or one.removed or one.unsure, f"rejected, but no dead letter: {one}"
            if one.unsettled and one.unsure:
                one.settle(ACKED)       # before the crash
        elif ticket.verb == "nack" and (one.state == BACK or (unseen and one.state == NEW)) and not newer:
            low, high = self._backoff(one.delivery) if ticket.option is None else (ticket.option, ticket.option)
            if unseen and ticket.option is None:
                high = self._backoff(FAR)[1]
            low = low if self.given_up < ticket.at else -FAR     # a fetch may have had it since, and given it up
            one.give_back(ticket.at + low, max(ticket.at + high, self.now))
        elif ticket.verb == "extend" and unseen and one.unsettled and not one.is_held(self.now) and not newer:
            one.give_back(0.0, max(one.late, ticket.at + ticket.option + self._backoff(FAR)[1], self.now))
        elif ticket.verb == "extend" and one.state == OUT and not newer:
            one.lease = ticket.at + ticket.option
            one.late = max(one.lease, self.now)
        elif ticket.verb == "extend" and one.state == BACK and not newer:
            one.late = max(one.late, ticket.at + ticket.option)     # whoever gave it back has it again

    # --- steering --------------------------------------------------------------------

    def sought(self, cursor):
        """The consumer goes on at *cursor*: what was there before is forgotten."""
        for one in self.wanted.values():
            of_old = [*one.of_old, *one.tokens]
            one.begin(NEW if one.offset >= cursor else OUTSIDE)
            one.of_old, one.told = of_old, one.is_excused(self.now)
        self.cursor = self.floor = cursor
        self.cursor_life += 1

    def settled_letters(self, offsets):
        """Dead letters were redriven or purged."""
        for offset in offsets:
            del self.letters[offset]

    # --- what follows ----------------------------------------------------------------

    def _backoff(self, delivery):
        """Return the least and the most that the backoff after that many deliveries can be (FAR: after any)."""
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
        workers = [one for one in self.workers if self.mode != "exclusive" or self.is_active(one)]
        room = [not one.leaves and len(self.had_by(one)) < one.max_in_flight for one in workers]
        if self.now < self.patient_until or not any(room) or (self.mode == "exclusive" and not all(room)):
            return []
        # What was handed out unseen before a crash is pending until its lease is over, and then for its backoff.
        graceful = self.now < max(self.graced, self.lapsed) + self._backoff(FAR)[1]
        pending, overdue = sum(one.state in (OUT, BACK) or (one.state == NEW and one.hidden and graceful)
                               for one in self.wanted.values()), []
        for one in self.wanted.values():
            if self._is_blocked(one):
                pending += one.state == NEW     # it waits for another, and room is kept for it
            elif self._is_overdue(one) and (one.state != NEW or pending < self.settings["max_pending"]):
                overdue.append(one)
        return overdue

    def _is_overdue(self, one):
        late = {NEW: one.late, BACK: one.late, OUT: self._lapse(one)[1]}.get(one.state, FAR)
        if one.hidden:      # it may have been handed out before the crash, and then it lapses
            late = max(late, self.graced + self._backoff(FAR)[1], self.lapsed + self._backoff(FAR)[1])
        most = self.settings["max_deliveries"]
        may_die = most and (one.delivery >= most or one.hidden)
        return not (late > self.now or one.is_excused(self.now) or one.unsure or one.asked or may_die)

    def _is_blocked(self, one):
        return self.mode == "key_ordered" and one.key is not None and any(
            other.key == one.key and other.offset < one.offset and other.unsettled for other in self.wanted.values())
