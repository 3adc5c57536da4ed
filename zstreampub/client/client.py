"""The client: one connection to a server, shared by all greenlets of a thread.

It batches what is published, connects anew by itself, retries what may be retried and
resumes its subscriptions where they were. Works in patched and in unpatched processes.
"""

from functools import partial
from time import monotonic
from weakref import WeakValueDictionary

from ..codecs import encode, encode_one
from ..compression import MAX_PLAIN_BYTES, ZSTD, Zstd
from ..errors import ConnectionLost, InvalidOption
from ..filters.words import check_filters
from ..message import Message
from ..views.table import Table
from ..views.workqueue import WorkQueue
from . import entries
from .acks import Acks
from .calls import Call
from .channels import Channels
from .consumption import Consumption, new_member
from .delivery import fetched
from .elsewhere import Elsewhere
from .outbox.option import open_outbox, refuse_with
from .ports import ClientPort
from .producer import Producer
from .publisher import Publisher
from .steering import Steering
from .subscription import Subscription
from .terms import Terms

_LONGEST_S = 1e7            # what timers can be set to
_IDEMPOTENT = frozenset(("topics", "get", "last", "stats", "about", "subscriptions", "unsubscribe", "consumers",
                         "consumer", "peek", "browse", "dead", "create_consumer", "update_consumer", "delete_consumer",
                         "pause", "resume", "ack", "extend", "scheduled"))


class Client(Steering):
    """Publishes to and subscribes at the server at *address*: text, or a list of which the first that answers is used.

    It connects in the background; a call waits for that, at most its *timeout_s*. Belongs to
    the thread and the process that made it. *heartbeat_s* is how often the connection is
    probed; after two that are not answered it is lost and made anew. *name* is the default
    name of its subscriptions. *compression* "zstd": batches travel compressed in both directions where the server
    can do that, else plain; docs/codecs.rst says what it is worth. *verify*: check all that is read by the checksum
    that its publisher made; what does not fit is asked for again, and then raised as StoreCorrupt. *workers*: its
    subscriptions may be served by workers of the server, over connections of their own. *outbox*: a directory where
    what is published is kept first, see docs/outbox.rst and :class:`~zstreampub.client.outbox.outbox.Outbox`.
    """

    def __init__(self, address="tcp://127.0.0.1:4242", *, timeout_s=30.0, heartbeat_s=5.0, name=None,
                 compression=None, verify=True, workers=True, outbox=None, outbox_max_messages=None,
                 outbox_max_bytes=None, outbox_when_full="refuse"):
        addresses = [address] if isinstance(address, str) else list(address)
        if not addresses:
            raise InvalidOption("A client needs an address to connect to.")
        self._timeout_s = _seconds("timeout_s", timeout_s)
        self._name = name
        self._limits_call = None
        self._acks = WeakValueDictionary()      # consumer -> Acks
        connect = partial(Channels, heartbeat_s=_seconds("heartbeat_s", heartbeat_s), zstd=_zstd(compression),
                          verify=bool(verify))
        self._channels = connect(addresses, on_up=self._ask_limits)
        self._elsewhere = Elsewhere(self._channels, connect, bool(workers))
        self._publisher = Publisher(self._channels)
        self._terms = Terms()
        self.outbox = open_outbox(outbox, self._channels, self._publisher, outbox_max_messages, outbox_max_bytes,
                                  outbox_when_full)

    # --- publishing --------------------------------------------------------------------

    def publish(self, topic, payload, *, content_type=None, headers=None, key=None, id=None, unique=None, ttl_s=None,
                timeout_s=None, **terms):
        """Publish one message; return its offset once it is on the server's disk.

        *content_type* says how the payload is written: "json", "cbor", "bytes", ..., or a full content type; None: as
        msgpack. Our readers decode it by that, others see bytes and the header ``content-type``: see codecs.py.

        A message whose *id* its topic has had lately is not stored again: the offset is that of the first. With
        ``unique="content"`` the payload is its own id. Readers who come later than *ttl_s* get a gap instead. *terms*:

        * ``expected_next=n``: store it only if *n* is the offset after the topic's newest message, else NextMismatch;
        * ``delay_s``, or ``at`` (seconds since the epoch): it comes then; returns an id for :meth:`cancel`;
        * ``wait="delivered"`` or ``"acked"``, by ``wait_count`` subscriptions or consumers (1) or the consumers
          ``wait_for``, at most ``wait_timeout_s`` (30): returns a map that says who has it, ``complete`` or not.

        Raises InvalidTopic, InvalidPayload, InvalidOption, MessageTooLarge, a StoreError, or RequestTimeout, which
        says whether the message can have been stored.

        With an outbox: return when it is on the disk here, a future whose ``get()`` gives the offset; there are no
        *terms*. Raises SpoolFull when the outbox is full.
        """
        self.check_owner()
        if terms:
            if content_type is not None:
                payload, headers = encode_one(payload, headers, content_type)
            return self._publish_on(terms, "publish", topic, payload, timeout_s, headers=headers, key=key, id=id,
                                    unique=unique, ttl_s=ttl_s)
        return self._publish(entries.single(topic, payload, headers, key, id, unique, ttl_s, content_type), timeout_s)

    def publish_many(self, topic, payloads, *, content_type=None, headers=None, keys=None, ids=None, unique=None,
                     ttl_s=None, timeout_s=None, **terms):
        """Publish a list of messages, all or none; return ``(first, next)``: their offsets are ``first <= o < next``.

        *headers* is one map for all or a list of maps, *keys* and *ids* are lists; None stands for none.
        All else is as in :meth:`publish`.
        """
        self.check_owner()
        if terms:
            payloads = list(payloads)
            if content_type is not None:
                payloads, headers = encode(payloads, headers, content_type)
            answer = self._publish_on(terms, "publish_many", topic, payloads, timeout_s,
                                      headers=headers, keys=keys, ids=ids, unique=unique, ttl_s=ttl_s)
            return tuple(answer) if isinstance(answer, (list, tuple)) else answer
        entry = entries.several(topic, payloads, headers, keys, ids, unique, ttl_s, content_type)
        return self._publish(entry, timeout_s)

    def cancel(self, schedule_id):
        """Take back what was published with ``delay_s`` or ``at``; return whether it still waited."""
        return self.call("cancel", schedule_id)

    def scheduled(self, topic=None, *, after=None, limit=None):
        """Return maps ``id``, ``topic``, ``at``, ``size`` of what waits for its time, the next one first."""
        given = {"topic": topic, "after": after, "limit": limit}
        return self.call("scheduled", {name: value for name, value in given.items() if value is not None})

    def producer(self, *, linger_s=0.002, max_pending_bytes=16 << 20, timeout_s=None):
        """Return a :class:`Producer`, which publishes without waiting for each answer, or for the outbox's disk.

        Messages gather for *linger_s*, 0: until the end of the turn, so that what is published while nobody waits
        leaves together, and nothing later than it must.
        """
        self.check_owner()
        return Producer(self._channels.check_owner, self._publisher if self.outbox is None else self.outbox,
                        _seconds("linger_s", linger_s, least=0), max_pending_bytes, self._within(timeout_s))

    def submit(self, entry, timeout_s=None):
        """Publish an Entry (see entries.py), which is the future of its outcome; never waits."""
        refuse_with(self.outbox, "submit")
        self._publisher.publish(entry, self._within(timeout_s))

    def give_up(self, entry, error):
        """Settle *entry* with *error* unless it is settled: if it was not sent yet, it never will be."""
        self._publisher.give_up(entry, error)

    # --- subscribing -------------------------------------------------------------------

    def subscribe(self, patterns=">", *, start="new", until=None, policy=None, max_messages=None, max_bytes=None,
                  block_timeout_s=None, epoch=None, name=None, filters=None, on_gap=None, on_control=None,
                  reconnect=True):
        """Return an open :class:`Subscription` to *patterns*, one or a list.

        The options are those of the protocol; a wrong one raises here. *start* counts for the first connection;
        later ones resume at ``Subscription.offset``. With *reconnect* (default) a lost connection, a
        draining server and a ``SlowConsumer`` are no error: reading goes on where it was. Without it they
        are raised, with ``resume``. ``on_gap(gap)`` is called at the place of a gap; without it GapError is
        raised there, once, and reading can go on. ``on_control(control)`` is shown all other controls.
        *filters* (docs/filters.rst) are applied by the server: what they leave out does not cross the wire.
        """
        self.check_owner()
        if filters is not None:
            check_filters(filters)
        options = {"start": start, "until": until, "policy": policy, "max_messages": max_messages,
                   "max_bytes": max_bytes, "block_timeout_s": block_timeout_s, "epoch": epoch,
                   "filters": filters, "name": self._name if name is None else name}
        if until == "end":
            options["until"] = self.about().get("next")     # fixed here, for a resumed stream must not move it
        options = {name: value for name, value in options.items() if value is not None}
        deadline = monotonic() + self._timeout_s
        self._elsewhere.wait(self._timeout_s)
        subscription = Subscription(self._channels, patterns if isinstance(patterns, str) else list(patterns), options,
                                    reconnect=reconnect, on_gap=on_gap, on_control=on_control)
        subscription.wait_open(max(deadline - monotonic(), 0))
        return subscription

    # --- consumers ---------------------------------------------------------------------

    def consume(self, patterns=None, consumer=None, *, member=None, max_in_flight=None, name=None, on_gap=None,
                on_control=None, reconnect=True, **settings):
        """Join the durable *consumer*, which is created if need be; return a :class:`Consumption` to iterate over.

        *patterns* may be None if it exists. *settings* are the protocol's (``start``, ``mode``, ``ack_wait_s``,
        ``backoff_s``, ``max_deliveries``, ...); others than those that it has raise ConsumerConflict. At most
        *max_in_flight* messages are here without being settled. *member* names this member, also after a lost
        connection. ``on_gap``, ``on_control`` and *reconnect*: as in :meth:`subscribe`.
        """
        self.check_owner()
        if not isinstance(consumer, str):
            raise InvalidOption("consume takes patterns (None for a consumer that exists) and the consumer's name.",
                                option="consumer")
        options = {"consumer": consumer, "member": member or new_member(), "max_in_flight": max_in_flight,
                   "name": self._name if name is None else name, **settings}
        options = {name: value for name, value in options.items() if value is not None}
        patterns = patterns if patterns is None or isinstance(patterns, str) else list(patterns)
        consumption = Consumption(self._channels, self._acks_of(consumer), patterns, options, reconnect=reconnect,
                                  on_gap=on_gap, on_control=on_control)
        consumption.wait_open(self._timeout_s)
        return consumption

    def fetch(self, consumer, count=1, *, timeout_s=0.0, offset=None):
        """Return a list of at most *count* deliveries, without joining; the server waits *timeout_s* for the first.

        They are to be settled within the consumer's ``ack_wait_s``. *offset*: that very message, if it is to be had.
        """
        acks = self._acks_of(consumer)
        options = {"count": count, "timeout_s": timeout_s, "offset": offset}
        found = self.call("fetch", consumer, {name: value for name, value in options.items() if value is not None},
                          timeout_s=self._timeout_s + timeout_s)
        return [fetched(Message.of_map(fields), fields["delivery"], fields["token"], acks) for fields in found]

    def unsubscribe(self, subscription_id):
        """End the subscription with this id, whoever's it is; return whether it was there."""
        return self.call("unsubscribe", subscription_id) or any(
            self.ask_workers("unsubscribe", subscription_id).values())

    def queue(self, name="default", **options):
        """Return the :class:`~zstreampub.views.workqueue.WorkQueue` *name* of the server."""
        refuse_with(self.outbox, "queue")
        return WorkQueue(ClientPort(self), name, **options)

    def table(self, topic, **options):
        """Return a :class:`~zstreampub.views.table.Table` of *topic*."""
        refuse_with(self.outbox, "table")
        return Table(ClientPort(self), topic, **options)

    # --- asking --------------------------------------------------------------------------

    def topics(self, pattern=">"):
        """Return ``[{"topic", "messages", "bytes", "next"}, ...]`` of what is kept, sorted by topic."""
        return self.call("topics", pattern)

    def subscriptions(self):
        """Return a map for each live subscription of the server; ``worker`` says which worker has it, if one has."""
        found = self.ask_workers("subscriptions")
        return self.call("subscriptions") + [
            {**one, "worker": number} for number, rows in found.items() for one in rows]

    def stats(self):
        """Return the server's counters, without those of its workers."""
        return self.call("stats")

    def about(self):
        """Return the server's version, epoch, bounds of the log, heartbeat and limits."""
        return self.call("about")

    def get(self, offset):
        """Return the message at *offset*, or None."""
        return _message(self.call("get", offset))

    def last(self, topic, key=None):
        """Return the newest message of *topic*, of those with *key* if given, or None."""
        return _message(self.call("last", topic) if key is None else self.call("last", topic, key))

    def call(self, method, *args, timeout_s=None):
        """Call any method of the service; return what it returns.

        The reading methods are asked again if the connection is lost meanwhile; any other raises ConnectionLost
        then, for it may have run.
        """
        return self._call(method, args, self._within(timeout_s), method in _IDEMPOTENT)

    def _call(self, method, args, timeout_s, retry):
        self.check_owner()
        return Call(self._channels, method, args, timeout_s, retry=retry).ask()

    def ask_workers(self, method, *args):
        """Return what each worker of the server answers to *method*, by its number; who is away is left out."""
        return self._elsewhere.ask(self.about().get("workers") or (), method, args)

    # --- the rest ----------------------------------------------------------------------

    @property
    def is_connected(self):
        """Whether there is a connection at the moment."""
        return self._channels.is_up

    @property
    def is_open(self):
        """Whether it was not closed."""
        return self._channels.is_open

    def check_owner(self):
        """Raise RequestError in any thread or process but the one that made the client."""
        self._channels.check_owner()

    def close(self):
        """Close the connection: publishes that wait get ConnectionLost, subscriptions end. Does not wait for that."""
        self.check_owner()
        self._channels.close()
        self._elsewhere.close()
        self._publisher.close(ConnectionLost("The client is closed."))
        if self.outbox is not None:
            self.outbox.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _acks_of(self, consumer):
        acks = self._acks.get(consumer)
        if acks is None:
            acks = self._acks[consumer] = Acks(self._channels, consumer)
        return acks

    def _publish_on(self, terms, method, topic, payload, timeout_s, **metadata):
        refuse_with(self.outbox, f"{next(iter(terms))}=")
        timeout_s = self._within(timeout_s) + self._terms.extra_s(terms)
        with self._terms.options(metadata, terms) as options:
            return self._call(method, (topic, payload, options), timeout_s, True)

    def _publish(self, entry, timeout_s):
        timeout_s = self._within(timeout_s)
        if self.outbox is not None:
            return self.outbox.keep(entry, timeout_s)
        self._publisher.publish(entry, timeout_s)
        try:
            return entry.get()
        except BaseException as error:
            self.give_up(entry, error)      # whoever waited may have been killed
            raise

    def _within(self, timeout_s):
        return self._timeout_s if timeout_s is None else _seconds("timeout_s", timeout_s)

    def _ask_limits(self):
        """Ask what the server takes: on each connection, for it may be another server."""
        self._publisher.forget_server()
        if self._limits_call is not None:
            self._channels.forget(self._limits_call)
        self._limits_call = call = Call(self._channels, "about", (), None, retry=False)
        call.future.rawlink(self._learn_limits)
        self._channels.open(call)

    def _learn_limits(self, answer):
        if isinstance(answer.exception, ConnectionLost):
            return      # asked again on the next connection
        about = answer.value if answer.exception is None else None
        if isinstance(about, dict):
            self._channels.learn_heartbeat(about.get("heartbeat_s"))
        self._publisher.learn_limits(about)
        self._elsewhere.learn(about)


def _seconds(name, value, least=None):
    """Return *value*, which is to be above 0, or no less than *least*. Raises InvalidOption."""
    if type(value) not in (int, float) or not (value > 0 if least is None else value >= least):
        wanted = "above 0" if least is None else f"of at least {least}"
        raise InvalidOption(f"{name} is a number of seconds {wanted}, not {value!r:.60}.", option=name)
    return min(value, _LONGEST_S)


def _zstd(compression):
    if compression not in (None, ZSTD):
        raise InvalidOption(f"compression is {ZSTD!r} or None, not {compression!r:.60}.", option="compression")
    return None if compression is None else Zstd(MAX_PLAIN_BYTES)


def _message(fields):
    return None if fields is None else Message.of_map(fields)
