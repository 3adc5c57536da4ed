"""The stores: durable (LMDB) and in memory. The LMDB module is loaded only by whoever opens such a store."""

from ..errors import InvalidOption
from ..settings import Settings


def open_store(url, settings=None):
    """Return the store that *url* names: ``lmdb:DIRECTORY`` (made if it is not there) or ``memory:``.

    Call it on the hub that will use the store. Raises InvalidOption if the url names no
    kind of store, StoreError if the store cannot be opened.
    """
    settings = settings or Settings()
    kind, colon, place = url.partition(":") if isinstance(url, str) else ("", "", "")
    if kind == "lmdb" and colon and place:
        from .lmdb import LmdbStore
        return LmdbStore(place, settings)
    if kind == "memory" and colon and not place:
        from .memory import MemoryStore
        return MemoryStore(settings)
    raise InvalidOption(f"{url!r} names no store. Write lmdb:DIRECTORY for a log on disk, "
                        "or memory: for one that ends with the process.", option="store")
