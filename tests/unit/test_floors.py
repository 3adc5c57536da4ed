"""The floors of the house: which file may import which, and who may open which dependency.

FLOORS and DOORS are the one place where this is written down. A new file goes on the
lowest floor that is above everything it imports; a folder is one room.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "zstreampub"

# Lowest first. "name" is zstreampub/name.py, "name/" is the folder with all in it.
GROUND = [      # what server and client share
    {"errors", "stats", "version", "clock", "logs", "allocator"},
    {"topics", "wire", "payload", "checks", "threads/", "disk/"},
    {"columns", "codecs", "zmtp/"},
    {"single"},
    {"message", "compression"},
    {"views/", "filters/"},
]
FLOORS = [
    *GROUND,
    {"settings", "store", "policy", "transport", "threaded", "described"},
    {"publishing", "waiting", "expiry", "taking"},
    {"start", "stores/", "queue", "feed", "steering", "channels", "leavers", "rounds", "gather"},
    {"subscription", "requests", "handouts", "consumer_methods", "outbound"},
    {"fanout", "filtered", "sifter"},
    {"consumers/", "schedule", "receipts", "intake", "outlet"},
    {"broker"},
    {"service", "methods", "lane", "sockets"},
    {"server"},
    {"workers/"},
    {"serving"},
    {"facade/"},
    {"cli/"},
    {"__init__"},       # the roof: the public names
]
# Towers stand beside the floors: a tower imports what is listed, and only the cli, the roof
# and what opens either a server's or a store of one's own import it. Nobody imports "aio/" but its users.
TOWERS = {
    "client/": set().union(*GROUND, {"spool/"}),
    "receive/": set().union(*GROUND, {"client/", "spool/"}),
    "spool/": set().union(*GROUND),
    "aio/": set().union(*GROUND, {"client/"}),
}
TOWER_VISITORS = {"cli/", "facade/", "__init__"}

# A dependency is imported only by the files behind its door.
DOORS = {
    "lmdb": {"disk/"},
    "zerorpc": {"service", "methods", "sockets", "server"},
    "zmq": {"transport", "sockets", "receive/zeromq"},
    "click": {"cli/"},
    "rich": {"cli/"},
    "cbor2": {"codecs"},
    "zstandard": {"compression"},
    "msgspec": {"filters/picked"},
    "pickle": {"codecs"},
}


def room(file):
    """Return the room of a file such as ``stores/lmdb``: ``stores/``; a single file is a room of its own."""
    folder, slash, _ = file.partition("/")
    return folder + slash


def floor_of(some_room):
    for floor, rooms in enumerate(FLOORS):
        if some_room in rooms:
            return floor
    return None


def files():
    return sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))


def imports_of(file):
    """Yield every imported module as dotted absolute name, and for ``from a import b`` also ``a.b``."""
    source = (PACKAGE / file).with_suffix(".py")
    package = ["zstreampub", *file.split("/")[:-1]]
    for node in ast.walk(ast.parse(source.read_text(), str(source))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                yield module, alias.name


def own_imports(file):
    """Return the files of ours that *file* imports."""
    found = set()
    for module, name in imports_of(file):
        if module.split(".")[0] == "zstreampub":
            found.add(_file_of(module, name))
    return found


def _file_of(module, name):
    path = "/".join(module.split(".")[1:])
    for candidate in (f"{path}/{name}".lstrip("/"), path, f"{path}/__init__".lstrip("/")):
        if (PACKAGE / candidate).with_suffix(".py").is_file():
            return candidate
        if (PACKAGE / candidate / "__init__.py").is_file():
            return f"{candidate}/__init__".lstrip("/")
    raise AssertionError(f"there is no file for the import of {name!r} from {module!r}")


@pytest.mark.parametrize("file", files())
def test_every_file_stands_on_a_floor(file):
    assert floor_of(room(file)) is not None or room(file) in TOWERS, (
        f"zstreampub/{file}.py is on no floor: add {room(file)!r} to FLOORS in {__file__}, "
        "on the lowest floor that is above everything it imports")


@pytest.mark.parametrize("file", files())
def test_a_file_imports_only_from_its_own_folder_or_from_lower_floors(file):
    here = room(file)

    for imported in own_imports(file):
        there = room(imported)
        if there == here:
            continue
        if here in TOWERS:
            assert there in TOWERS[here], f"{file} may import only {sorted(TOWERS[here])}, not {imported}"
        elif there in TOWERS:
            assert here in TOWER_VISITORS, f"{file} imports {imported}: only {sorted(TOWER_VISITORS)} may"
        else:
            assert floor_of(there) is not None, f"{file} imports {imported}, which is on no floor"
            assert floor_of(there) < floor_of(here), (
                f"{file} (floor {floor_of(here)}) imports {imported} (floor {floor_of(there)})")


def test_no_files_import_each_other_in_a_circle():
    graph = {file: own_imports(file) - {file} for file in files()}

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"a circle of imports: {' <- '.join(circle.args[1])}")


@pytest.mark.parametrize("file", files())
def test_a_dependency_is_imported_only_behind_its_door(file):
    for module, _ in imports_of(file):
        behind = DOORS.get(module.split(".")[0])
        assert behind is None or file in behind or room(file) in behind, (
            f"{file} imports {module}; only {sorted(behind)} may: translate there, or widen DOORS in {__file__}")


def test_everything_on_the_list_of_floors_and_doors_is_named_as_a_file_or_a_folder():
    names = set().union(*FLOORS, TOWERS, *DOORS.values())

    assert all(name.endswith("/") or name.removesuffix("/").replace("/", "").isidentifier() for name in names)
