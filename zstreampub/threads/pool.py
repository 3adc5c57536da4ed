"""Functions that block, run in a thread of a pool while the other greenlets go on."""


def in_pool(pool, function, *arguments):
    """Return or raise what *function* does in a thread of *pool*, a gevent ThreadPool."""
    result, error = pool.apply(_caught, (function, arguments))
    if error is not None:
        raise error
    return result


def _caught(function, arguments):
    # gevent prints the traceback of whatever leaves a function in its thread pool.
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error
