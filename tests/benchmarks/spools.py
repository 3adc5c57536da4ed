"""Stores of received messages compared: each message is added, or looked at and then removed, durably or not.

Every peer has the same five methods. An actor returns when it began and ended; all messages are
found to be there afterwards, once and in order.
"""

import os
from pathlib import Path
from time import perf_counter

import gevent

from zstreampub import FifoStore

from .stage import Failed
from .workers import greenlets, number_payload, threads


class Ours:
    """FifoStore."""

    def __init__(self, folder, durability="sync"):
        self._store = FifoStore(f"{folder}/fifo", durability=durability)
        self.add = self._store.add
        self.add_group = self._store.add_many

    def take(self):
        message = self._store.front()
        self._store.pop_front()
        return message

    def take_group(self, count):
        messages = self._store.front_many(count)
        self._store.pop_many(count)
        return messages

    def save(self):
        """Nothing is left to do."""


class OursRelaxed(Ours):
    """FifoStore(durability="relaxed")."""

    def __init__(self, folder):
        super().__init__(folder, "relaxed")


class Persizmq:
    """persizmq's PersistentStorage: a file for each message, in the system's cache."""

    def __init__(self, folder):
        import persizmq
        self._folder = f"{folder}/persizmq"
        self._store = persizmq.PersistentStorage(self._folder)
        self.add = self._store.add_message

    def take(self):
        message = self._store.front()
        self._store.pop_front()
        return message

    def add_group(self, messages):
        for message in messages:
            self.add(message)

    def take_group(self, count):
        return [self.take() for _ in range(count)]

    def save(self):
        """Nothing is left to do."""


class PersizmqSynced(Persizmq):
    """The same, with an fsync of each file and of the directory after each change."""

    def __init__(self, folder):
        super().__init__(folder)
        Path.write_bytes = _write_synced        # type: ignore[method-assign]
        self._directory = os.open(self._folder, os.O_RDONLY)
        self.add = self._add_synced

    def _add_synced(self, message):
        self._store.add_message(message)
        os.fsync(self._directory)

    def take(self):
        message = super().take()
        os.fsync(self._directory)
        return message


def _write_synced(path, content):
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return len(content)


class FifoSQLite:
    """persist-queue's FIFOSQLiteQueue: SQLite syncs its write-ahead log at each commit, and each ``put`` is one."""

    def __init__(self, folder, auto_commit=True):
        import persistqueue
        self._queue = persistqueue.FIFOSQLiteQueue(f"{folder}/sqlite", multithreading=True, auto_commit=auto_commit)
        self.add = self._queue.put
        self.save = self._queue.task_done

    def take(self):
        return self._queue.get(block=False)

    def add_group(self, messages):
        for message in messages:
            self._queue.put(message)
        self._queue.task_done()

    def take_group(self, count):
        messages = [self._queue.get(block=False) for _ in range(count)]
        self._queue.task_done()
        return messages


class FifoSQLiteGroups(FifoSQLite):
    """The same; what is taken is deleted a group at a time."""

    def __init__(self, folder):
        super().__init__(folder, auto_commit=False)


class AckSQLite:
    """persist-queue's SQLiteAckQueue: always a commit for each step."""

    def __init__(self, folder):
        import persistqueue
        self._queue = persistqueue.SQLiteAckQueue(f"{folder}/ack", multithreading=True, auto_commit=True)
        self.add = self._queue.put

    def take(self):
        message = self._queue.get(block=False)
        self._queue.ack(message)
        return message

    def add_group(self, messages):
        for message in messages:
            self.add(message)

    def take_group(self, count):
        return [self.take() for _ in range(count)]

    def save(self):
        """Nothing is left to do."""


class FileQueue(FifoSQLite):
    """persist-queue's file Queue, saved for each message or each group; in the system's cache."""

    def __init__(self, folder, autosave=True):
        import persistqueue
        os.makedirs(f"{folder}/temporary")
        self._queue = persistqueue.Queue(f"{folder}/file", autosave=autosave, tempdir=f"{folder}/temporary")
        self.add = self._queue.put

    def save(self):
        """Nothing is left to do."""


class FileQueueGroups(FileQueue):
    """The same, saved once a group."""

    def __init__(self, folder):
        super().__init__(folder, autosave=False)


# --- what is measured --------------------------------------------------------------------------


def in_turn(link, ours, peer, verb, folder, messages):
    """*verb* ``add`` or ``take``, one by one, *ours* and *peer* in turn: what the disk does otherwise meets both."""
    stores = ours(folder), peer(folder)
    payloads = [number_payload(number) for number in range(messages)]
    if verb == "take":
        for store in stores:
            store.add_group(payloads)
    link.ready()
    link.go()
    began, spent = perf_counter(), [0.0, 0.0]
    found: tuple = ([], [])
    for at, payload in enumerate(payloads):
        for which in (0, 1) if at % 2 else (1, 0):
            started = perf_counter()
            if verb == "take":
                message = stores[which].take()
            else:
                stores[which].add(payload)
            spent[which] += perf_counter() - started
            if verb == "take":
                found[which].append(message)
    ended = perf_counter()
    for store, taken in zip(stores, found):
        store.save()
        _check(taken or store.take_group(messages), payloads)
    return {"began": began, "ended": ended, "spent": spent}


def add(link, peer, folder, messages, group, many=1, run=threads):
    """Add *messages*, *group* at a time, or one by one by *many* threads or greenlets (*run*)."""
    store = peer(folder)
    payloads = [number_payload(number) for number in range(messages)]
    shares = iter([payloads[at::many] for at in range(many)])
    link.ready()
    link.go()
    began = perf_counter()
    if many > 1:
        run(lambda: _add_each(store, next(shares)), many)
    else:
        for at in range(0, messages, group):
            store.add_group(payloads[at:at + group])
    ended = perf_counter()
    store.save()
    found = store.take_group(messages)
    _check(sorted(found) if many > 1 else found, payloads)
    return {"began": began, "ended": ended}


def add_green(link, peer, folder, messages, group, many):
    """The same by greenlets."""
    gevent.get_hub()
    return add(link, peer, folder, messages, group, many, greenlets)


def take(link, peer, folder, messages, group):
    """Look at *messages* and remove them, *group* at a time."""
    store = peer(folder)
    payloads = [number_payload(number) for number in range(messages)]
    store.add_group(payloads)
    link.ready()
    link.go()
    began = perf_counter()
    found = [message for _ in range(messages // group) for message in store.take_group(group)]
    ended = perf_counter()
    _check(found, payloads)
    return {"began": began, "ended": ended}


def _add_each(store, payloads):
    for payload in payloads:
        store.add(payload)


def _check(found, payloads):
    if found != payloads:
        raise Failed(f"{len(found)} messages came back, or not in order; {len(payloads)} were added")
