"""The directory of a store: made, looked at, and locked against everybody else."""

import errno
import fcntl
import os

from ..errors import StoreError, StoreLocked, StoreVersion

LOCK_NAME = "lock"

_held: set = set()      # the locks that this process has


def lock_directory(path):
    """Make *path* a store's directory and return its lock, for :func:`unlock_directory`.

    A child of a fork has none of the locks of its parent.
    Raises StoreLocked if a store is open there, StoreError if the directory cannot be used.
    """
    try:
        _make(path)
        _refuse_strangers(path)
        lock = os.open(os.path.join(path, LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileExistsError as error:
        raise StoreError(f"{path} is a file; a store is a directory.", path=path) from error
    except NotADirectoryError as error:
        raise StoreError(f"{path} lies below a file; a store is a directory.", path=path) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be used for a store: {error.strerror}. "
                         "Give the process write permission there, or name another directory.", path=path) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    except OSError as error:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise StoreLocked(f"{path} is open in the process with pid {holder}. A store is open to one process at "
                              "a time.", path=path, pid=int(holder) if holder.isdigit() else None) from error
        raise StoreError(f"{path} cannot be locked: {error.strerror}.", path=path) from error
    _held.add(lock)
    return lock


def unlock_directory(lock):
    """Let others have the directory."""
    _held.discard(lock)
    os.close(lock)


def sync_directory(path):
    """Have the names in *path* on disk: a new file survives a power cut only with its name."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make(path):
    made, above = [], path
    while not os.path.exists(above):
        made.append(above)
        above = os.path.dirname(above)
    os.makedirs(path, exist_ok=True)
    for one in made:
        sync_directory(os.path.dirname(one))


def _refuse_strangers(path):
    """Raise StoreVersion if the directory is somebody else's: a store is not strewn among other files."""
    names = {name for name in os.listdir(path) if not name.startswith(".")} - {LOCK_NAME, "lost+found"}
    if names and "data.mdb" not in names:
        raise StoreVersion(f"{path} is no store and not empty: it holds {sorted(names)[0]!r}. "
                           "Name an empty directory or one that is not there yet.", path=path)


def _leave_to_parent():
    while _held:        # or the lock would live as long as this child does
        os.close(_held.pop())


os.register_at_fork(after_in_child=_leave_to_parent)
