"""What a full queue does. A policy is a small class; a user can add one.

A policy is made once for each subscription. ``on_full(subscription, batch)`` is called on
the hub with the messages that do not fit; it must not wait. It leaves *batch* in the log
(``subscription.fall_behind``), skips it (``subscription.skip``), makes room, or ends the
subscription (``subscription.end``); doing nothing would be a silent gap, and is refused.
"""

from .errors import InvalidOption, SlowConsumer


class Policy:
    """Base of all policies.

    ``name`` is what a subscriber asks for. With ``holds_publisher``, the answer to a publish
    waits until this subscription's queue has taken the message, at most ``block_timeout_s``.
    With ``leaves_in_log``, what does not fit is read from the log later, so a batch of which a part
    would fit is left there whole.
    """

    name = ""
    holds_publisher = leaves_in_log = False

    def on_full(self, subscription, batch):
        raise NotImplementedError


class Spill(Policy):
    """Leave the live feed and read on from the log; join again when caught up. Nothing is lost."""

    name = "spill"
    leaves_in_log = True

    def on_full(self, subscription, batch):
        subscription.fall_behind(batch)


class Drop(Policy):
    """Skip the newest messages until there is room; a gap tells which."""

    name = "drop"

    def on_full(self, subscription, batch):
        subscription.skip(batch, self.name)


class DropOldest(Policy):
    """Let the oldest queued messages give way; a gap tells which."""

    name = "drop_oldest"

    def on_full(self, subscription, batch):
        subscription.force(batch)
        subscription.dropped += subscription.queue.drop_oldest(self.name)


class Conflate(Policy):
    """Keep only the newest message per topic and key; a gap tells how many went.

    If there are more topics and keys than the queue may hold, the oldest give way.
    """

    name = "conflate"

    def on_full(self, subscription, batch):
        subscription.cursor = batch.next
        subscription.conflated += subscription.queue.conflate(batch, self.name)
        subscription.dropped += subscription.queue.drop_oldest("drop_oldest")


class Disconnect(Policy):
    """End the subscription and say where to resume. Nothing is lost."""

    name = "disconnect"

    def on_full(self, subscription, batch):
        subscription.end(SlowConsumer(
            f"The queue of {subscription.queue.max_messages} messages or {subscription.queue.max_bytes} bytes is full. "
            "Read faster, ask for a larger queue, or choose the policy 'spill'."))


class Block(Policy):
    """Hold the publishers of these topics until there is room, at most ``block_timeout_s``.

    The message is durable already and stays in the log, from where this subscription
    takes it as soon as it has room.
    """

    name = "block"
    holds_publisher = leaves_in_log = True

    def on_full(self, subscription, batch):
        subscription.fall_behind(batch)


BUILT_IN = {policy.name: policy for policy in (Spill, Drop, DropOldest, Conflate, Disconnect, Block)}


def find_policy(name, known=BUILT_IN):
    """Return a new policy called *name*; a Policy instance or class is taken as it is."""
    if isinstance(name, Policy):
        return name
    if isinstance(name, type) and issubclass(name, Policy):
        return name()
    try:
        return known[name]()
    except (KeyError, TypeError):
        raise InvalidOption(f"policy is one of {', '.join(sorted(known))}, not {name!r}.", option="policy") from None
