"""Endpoints: what they mean, and what becomes of paths that others have left or still use."""

import _socket
import errno
import os
import socket
import subprocess
import sys

import pytest

from zstreampub.zmtp.endpoints import forget, listen, parse

LONGEST = "/" + "p" * 106       # one byte more does not fit into an address of the system

LISTEN_AND_DIE = """
import os, sys
from zstreampub.zmtp.endpoints import listen
listening = listen(sys.argv[1])
os._exit(0)
"""


@pytest.fixture
def opened():
    """Listen at an endpoint until the end of the test; return where."""
    listening = []

    def open(endpoint):
        sock, where = listen(endpoint)
        listening.append(sock)
        return where
    yield open
    for sock in listening:
        sock.close()


def connect(place):
    with socket.socket(socket.AF_INET if isinstance(place, tuple) else socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(place)


@pytest.mark.parametrize("endpoint, place", [
    ("tcp://127.0.0.1:4242", ("127.0.0.1", 4242)), ("tcp://host.example:1", ("host.example", 1)),
    ("tcp://*:*", ("*", 0)), ("tcp://[::1]:65535", ("::1", 65_535)), ("tcp://::1:5", ("::1", 5)),
    ("tcp://127.0.0.1:65536", None), ("tcp://127.0.0.1:-1", None), ("tcp://127.0.0.1:", None),
    ("tcp://127.0.0.1", None), ("tcp://:5", None), ("tcp://", None), ("tcp://h:x", None), ("tcp://h:\u0661", None),
    ("tcp://a\0b:1", None),
    ("ipc:///run/a.sock", "/run/a.sock"), ("ipc://a.sock", "a.sock"), ("ipc://@name", b"\0name"),
    ("ipc://", None), ("ipc://*", None), ("ipc://@", None), ("ipc:///a\0b", None),
    (f"ipc://{LONGEST}", LONGEST), (f"ipc://{LONGEST}p", None),
    ("inproc://x", None), ("http://h:1", None), ("", None), ("nonsense", None), ("tcp:127.0.0.1:1", None)])
def test_an_endpoint_is_a_host_and_a_port_or_a_path(endpoint, place):
    assert parse(endpoint) == place


@pytest.mark.parametrize("endpoint", ["tcp://localhost:0", "tcp://eth0:0", "ipc://*", "inproc://x", "pgm://a:1"])
def test_an_endpoint_of_another_kind_is_left_to_others(endpoint):
    assert listen(endpoint) is None


@pytest.mark.parametrize("endpoint, where", [
    ("tcp://127.0.0.1:0", "tcp://127.0.0.1:"), ("tcp://127.0.0.1:*", "tcp://127.0.0.1:"),
    ("tcp://*:0", "tcp://0.0.0.0:"), ("tcp://[::1]:0", "tcp://[::1]:")])
def test_it_tells_the_port_that_the_system_chose(opened, endpoint, where):
    found = opened(endpoint)

    assert found.startswith(where)
    assert int(found.removeprefix(where)) > 0


def test_a_port_at_which_somebody_listens_is_refused(opened):
    where = opened("tcp://127.0.0.1:0")

    with pytest.raises(OSError) as caught:
        listen(where)

    assert caught.value.errno == errno.EADDRINUSE


def test_a_port_is_used_again_at_once_though_connections_of_its_last_owner_linger(opened):
    sock, where = listen("tcp://127.0.0.1:0")
    sock.setblocking(True)
    host, port = parse(where)
    with socket.create_connection((host, port)) as client:
        os.close(sock._accept()[0])
        sock.close()
        assert client.recv(1) == b""

    assert opened(where) == where


def test_at_a_path_one_can_connect_until_it_is_forgotten(opened, tmp_path):
    endpoint = opened(f"ipc://{tmp_path}/log.sock")
    connect(f"{tmp_path}/log.sock")

    forget(endpoint)
    forget(endpoint)

    assert os.listdir(tmp_path) == []


def test_an_abstract_name_is_no_file(opened, tmp_path):
    name = f"@zstreampub-{os.getpid()}-{tmp_path.name}"
    endpoint = opened(f"ipc://{name}")
    connect("\0" + name[1:])

    with pytest.raises(OSError) as caught:
        listen(endpoint)

    assert caught.value.errno == errno.EADDRINUSE
    forget(endpoint)


def test_a_path_that_a_killed_process_has_left_behind_is_used_again(opened, tmp_path):
    endpoint = f"ipc://{tmp_path}/log.sock"
    subprocess.run([sys.executable, "-c", LISTEN_AND_DIE, endpoint], check=True)
    assert os.path.exists(tmp_path / "log.sock")

    opened(endpoint)

    connect(f"{tmp_path}/log.sock")


def test_a_path_at_which_somebody_listens_is_refused_and_left_to_him(opened, tmp_path):
    endpoint = opened(f"ipc://{tmp_path}/log.sock")

    with pytest.raises(OSError) as caught:
        listen(endpoint)

    assert caught.value.errno == errno.EADDRINUSE
    connect(f"{tmp_path}/log.sock")


def test_a_path_whose_owner_accepts_nobody_just_now_is_still_his(tmp_path):
    path = f"{tmp_path}/log.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(path)
        busy.listen(0)
        waiting.connect(path)

        with pytest.raises(OSError) as caught:
            listen(f"ipc://{path}")

        assert caught.value.errno == errno.EADDRINUSE
        assert os.path.exists(path)


@pytest.mark.parametrize("kind", ["file", "directory", "link", "datagrams"])
def test_what_is_no_socket_that_was_left_behind_is_never_removed(tmp_path, kind):
    path = tmp_path / "precious"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        if kind == "file":
            path.write_text("precious")
        elif kind == "directory":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(tmp_path / "nowhere")
        else:
            datagrams.bind(str(path))

        with pytest.raises(OSError) as caught:
            listen(f"ipc://{path}")

        assert caught.value.errno == errno.EADDRINUSE
        assert os.path.lexists(path)


def test_a_path_in_no_folder_is_refused_with_the_words_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        listen(f"ipc://{tmp_path}/no/log.sock")


def test_what_cannot_be_listened_at_leaves_no_descriptor_behind(opened, tmp_path):
    (tmp_path / "file").write_text("")
    taken = opened("tcp://127.0.0.1:0")
    before = len(os.listdir("/proc/self/fd"))

    for endpoint in (taken, f"ipc://{tmp_path}/file", f"ipc://{tmp_path}/no/log.sock", "tcp://198.51.100.1:1"):
        with pytest.raises(OSError):
            listen(endpoint)

    assert len(os.listdir("/proc/self/fd")) == before


def test_what_listens_does_not_wait(opened):
    sock, _ = listen("tcp://127.0.0.1:0")

    with pytest.raises(BlockingIOError):
        sock._accept()

    assert type(sock) is _socket.socket
    sock.close()
