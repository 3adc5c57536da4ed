"""Endpoints as ZeroMQ writes them, ``tcp://HOST:PORT`` and ``ipc://PATH``, and sockets that listen there."""

import _socket
import errno
import os
import stat
from contextlib import suppress
from ipaddress import ip_address

_BACKLOG = 1024
_PORTS = range(1 << 16)
_PATH_BYTES = 107           # as long as the system takes it


def parse(endpoint):
    """Return ``(host, port)`` of a tcp endpoint, the path of an ipc one (text or, if abstract, bytes).

    None if it is neither. The host may be any text; a port ``*`` is 0.
    """
    scheme, separator, place = endpoint.partition("://")
    if not separator or "\0" in place:
        return None
    if scheme == "ipc":
        return _path(place)
    host, separator, port = place.rpartition(":")
    if scheme != "tcp" or not host or not separator:
        return None
    port = "0" if port == "*" else port
    if not port.isdecimal() or not port.isascii() or int(port) not in _PORTS:
        return None
    return host.removeprefix("[").removesuffix("]"), int(port)


def _path(place):
    if place in ("", "*", "@") or len(os.fsencode(place)) > _PATH_BYTES:
        return None
    return b"\0" + os.fsencode(place[1:]) if place[0] == "@" else place


def listen(endpoint):
    """Return a socket that listens at *endpoint*, and the endpoint with the port that it has; None if it is not ours.

    Ours are paths, addresses and ``*``, which is every IPv4 address of the machine. Raises OSError.
    """
    place = parse(endpoint)
    if isinstance(place, tuple):
        return _listen_tcp(*place)
    if place is not None:
        return _listen_at(place), endpoint
    return None


def _listen_tcp(host, port):
    host = "0.0.0.0" if host == "*" else host
    try:
        version = ip_address(host).version
    except ValueError:
        return None
    sock = _socket.socket(_socket.AF_INET if version == 4 else _socket.AF_INET6, _socket.SOCK_STREAM)
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        _open(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    host, port = sock.getsockname()[:2]
    return sock, f"tcp://{host}:{port}" if version == 4 else f"tcp://[{host}]:{port}"


def _listen_at(path):
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        try:
            _open(sock, path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_left_behind(path):
                raise
            os.unlink(path)
            _open(sock, path)
    except BaseException:
        sock.close()
        raise
    return sock


def _open(sock, address):
    sock.bind(address)
    sock.listen(_BACKLOG)
    sock.setblocking(False)


def _is_left_behind(path):
    """Tell whether *path* is a socket at which nobody listens."""
    if isinstance(path, bytes) or not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        probe.setblocking(False)
        probe.connect(path)
    except OSError as error:
        return error.errno == errno.ECONNREFUSED
    finally:
        probe.close()
    return False


def forget(endpoint):
    """Remove the path of an ipc *endpoint*, so that nobody finds it any more."""
    place = parse(endpoint)
    if isinstance(place, str):
        with suppress(OSError):
            os.unlink(place)
