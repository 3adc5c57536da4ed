"""What a member of a durable consumer is given, in the form in which its client gets it.

Like a subscription's feed, and each message says which delivery of it this is and by which
token it is acknowledged. Those two are added to the packed bytes; nothing is decoded.
Nothing here waits.
"""

from .errors import ZStreamPubError
from .feed import FEEDS, BatchFeed, Feed, MapFeed
from .store import Gap
from .wire import pack

_DELIVERY, _TOKEN = pack("delivery"), pack("token")


class _MemberFeed(Feed):
    """What both forms have in common: there is no offset to resume from, as the consumer knows it."""

    is_members = True

    def end_item(self):
        error = self.subscription.error
        return self._control({"control": "end", "why": type(error).__name__ if error else "closed",
                              "resume": None, "message": str(error) if error else ""})

    def farewell(self):
        error = self.subscription.error
        if isinstance(error, ZStreamPubError):
            return f"{error} What was not acknowledged is delivered again; join again to get it."
        return str(error)

    def _agreed(self):
        return {**super()._agreed(), **self.subscription.agreed()}

    def _tell(self, item):
        return super()._tell(item) if isinstance(item, Gap) else self._control(item.fields)

    @staticmethod
    def _is_control(item):
        return not hasattr(item, "token")

    @property
    def position(self):
        return self.subscription.position


class MemberMapFeed(_MemberFeed, MapFeed):
    """One message a map, with ``delivery`` and ``token``."""

    def _open(self, handout):
        tail = b"".join((_DELIVERY, pack(handout.delivery), _TOKEN, pack(handout.token)))
        for item in handout.batch.map_items():      # a fixmap: nine fields at most, so there is room for two
            self._items.append(b"".join((bytes((item[0] + 2,)), memoryview(item)[1:], tail)))


class MemberBatchFeed(_MemberFeed, BatchFeed):
    """Before each batch a map that says of it ``token``, ``delivery`` and ``ack_wait_s``."""

    def _add(self, parts, handout):
        parts.append(pack({"token": handout.token, "delivery": handout.delivery, "ack_wait_s": handout.ack_wait_s}))
        return 1 + super()._add(parts, handout.batch)


_MEMBER_FEEDS = {"map": MemberMapFeed, "batch": MemberBatchFeed}


def open_feed(form, broker, subscription):
    """Return the feed of *subscription*, which may be a member, in the *form* that ``parse_subscribe`` returned."""
    form, _, compressed = form.partition("+")
    feeds = _MEMBER_FEEDS if subscription.policy.name == "consumer" else FEEDS
    return feeds[form](broker, subscription, broker.zstd if compressed else None)
