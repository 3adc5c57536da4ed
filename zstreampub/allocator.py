"""How the C library keeps memory that was freed: for a process whose buffers come and go by the thousand."""

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3       # of malloc.h
_KEPT_BYTES = 16 << 20


def keep_freed_memory():
    """Have malloc keep up to 16 MiB of freed memory at hand, in each of its arenas, rather than give it back at once.

    A frame with a batch is a buffer of 100 KiB and more, made and freed several times on its way; each time the
    system would take its pages away and hand out new ones, zeroed, which was half of what a server computed for a
    batch. It is for the whole process, so only who owns that calls it. Where the C library has no ``mallopt`` (not
    glibc) nothing happens.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
