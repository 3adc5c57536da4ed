"""Lines of files and of stdin, plain or gzip, without ever holding the hub.

Gzip is recognised by its first bytes, not by a name. A pipe is read when it has
something, so a line is published when it was written and not when a buffer is full.
A line without end must not take all memory: one that is over MAX_LINE_BYTES is passed over.
"""

import os
import stat
import sys
import zlib

MAX_LINE_BYTES = 64 << 20
_PIECE = 256 * 1024
_GZIP = b"\x1f\x8b"


class Source:
    """The lines of one file; ``-`` is stdin. ``size`` is its bytes (None for a pipe), ``taken`` those read so far."""

    def __init__(self, path):
        self.name = "stdin" if path == "-" else path
        self._fd = os.dup(sys.stdin.fileno()) if path == "-" else os.open(path, os.O_RDONLY)
        status = os.fstat(self._fd)
        self.is_terminal = os.isatty(self._fd)
        self._is_file = stat.S_ISREG(status.st_mode)
        self.size = status.st_size if self._is_file else None
        self.taken = 0

    def lines(self):
        """Yield lists of lines as bytes, without their ends, as they come; raise ValueError for broken gzip.

        None stands for a line of more than MAX_LINE_BYTES; it comes when that is known, and the rest of the line is
        passed over.
        """
        begun = _Begun()
        for piece in self._plain():
            lines = piece.split(b"\n")
            if begun.add(lines[0]):
                yield [None]
            if len(lines) > 1:
                ended = [] if begun.is_too_long else [begun.join()]
                begun = _Begun()
                begun.add(lines.pop())
                yield [line.removesuffix(b"\r") for line in ended + lines[1:]]
        if begun.size and not begun.is_too_long:
            yield [begun.join().removesuffix(b"\r")]

    def close(self):
        os.close(self._fd)

    def _plain(self):
        """Yield the content, inflated if it is gzip."""
        head = b""
        while len(head) < 2:
            piece = self._read()
            if not piece:
                break
            head += piece
        if not head.startswith(_GZIP):
            yield head
            yield from iter(self._read, b"")
            return
        yield from self._inflated(head)

    def _inflated(self, piece):
        inflate = zlib.decompressobj(wbits=31)
        while piece:
            try:
                plain = inflate.decompress(piece, _PIECE * 4)
            except zlib.error as error:
                raise ValueError(f"{self.name} is broken gzip: {error}") from error
            yield plain
            # One piece may hold the end of one gzip member and the start of the next.
            piece = inflate.unconsumed_tail or inflate.unused_data
            if inflate.eof:
                piece = piece or self._read()
                if piece:
                    inflate = zlib.decompressobj(wbits=31)
            elif not piece:
                piece = self._read()
        if not inflate.eof:
            raise ValueError(f"{self.name} is gzip that ends too early")

    def _read(self):
        if not self._is_file:
            from gevent.socket import wait_read
            wait_read(self._fd)
        piece = os.read(self._fd, _PIECE)
        self.taken += len(piece)
        return piece


class _Begun:
    """A line whose end has not come: its pieces are joined once, however long it is."""

    def __init__(self):
        self.size = 0
        self._pieces = []

    @property
    def is_too_long(self):
        return self.size > MAX_LINE_BYTES

    def add(self, piece):
        """Take the next piece; return whether the line has become too long with it."""
        was = self.is_too_long
        self.size += len(piece)
        if not self.is_too_long:
            self._pieces.append(piece)
            return False
        self._pieces.clear()
        return not was

    def join(self):
        return b"".join(self._pieces)
