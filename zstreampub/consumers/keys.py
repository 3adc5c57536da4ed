"""KeyOrder: of the messages with one key, at most one is out; the later ones wait in line."""

from collections import deque


class KeyOrder:
    """``busy`` maps each key to the pending offsets that have it, in order: the first is out, or is the next.

    Messages without a key are free.
    """

    def __init__(self):
        self.busy = {}
        self._keys = {}     # offset -> key

    def is_busy(self, key):
        return key is not None and key in self.busy

    def out(self, offset, key):
        """Note that the message at *offset* goes out; its key is not busy."""
        if key is not None:
            self.busy[key] = deque((offset,))
            self._keys[offset] = key

    def park(self, offset, key):
        """Note that the message at *offset* waits for the others of its key."""
        self.busy[key].append(offset)
        self._keys[offset] = key

    def file(self, offset, key):
        """Note a message that was pending already when the store was opened; they come in order of their offsets.

        Returns whether an earlier one has its key.
        """
        if key is None:
            return False
        line = self.busy.setdefault(key, deque())
        line.append(offset)
        self._keys[offset] = key
        return len(line) > 1

    def is_first(self, offset):
        """Tell whether nothing of its key comes before *offset*."""
        key = self._keys.get(offset)
        return key is None or self.busy[key][0] == offset

    def release(self, offset):
        """Forget *offset*; return the offset whose turn it is now that it is gone, None if there is none."""
        key = self._keys.pop(offset, None)
        if key is None:
            return None
        line = self.busy[key]
        was_first = line[0] == offset
        if was_first:
            line.popleft()
        else:
            line.remove(offset)
        if not line:
            del self.busy[key]
            return None
        return line[0] if was_first else None
