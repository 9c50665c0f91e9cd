"""The floors and rooms of the package: who may import whom, read from the source with `ast`."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mailtools"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = {
    "commands": {"commands", "services", "system", "core"},
    "services": {"services", "system", "core"},
    "system": {"system", "core"},
    "core": {"core"},
}
# The rooms of each floor (folders and single files), and the rooms of its own floor that each may import.
# ARCHITECTURE.md tells what is in them.
_BASE = {"errors", "lean", "patterns"}
_PROTOCOL = _BASE | {"engine", "wire", "auth", "message", "mbox"}
_COMMAND = {"options", "output"}
ROOMS: dict[str, dict[str, set[str]]] = {
    "commands": {
        "lazy_group": set(),
        "output": set(),
        "options": {"output"},
        "fetch": _COMMAND,
        "mbox": _COMMAND | {"lazy_group"},
        "queue": _COMMAND | {"lazy_group"},
        "send": _COMMAND,
        "sendmail": _COMMAND,
        "serve_imap": _COMMAND,
        "serve_pop3": _COMMAND,
        "serve_smtp": _COMMAND,
        "user": _COMMAND,
    },
    "services": {
        "access": set(),
        "transit": set(),
        "users": set(),
        "mailbox": set(),
        "filters": set(),
        "smtp_client": {"access", "transit"},
        "delivery": {"transit"},
        "queue": {"access", "transit", "smtp_client", "delivery"},
        "submission": {"access", "transit", "smtp_client", "delivery", "queue"},
        "smtp_server": {"transit", "delivery", "queue", "users"},
        "pop3_server": {"mailbox", "users"},
        "imap_server": {"mailbox", "users", "transit", "filters"},
        "fetch": {"access", "transit"},
    },
    "system": {
        "clock": set(),
        "files": set(),
        "dns": set(),
        "process": {"files"},
        "tls": {"files"},
        "users": {"files", "process"},
        "mbox": {"clock", "files", "process"},
        "spool": {"clock", "files"},
        "net": {"clock", "process", "tls"},
    },
    "core": {
        "lean": set(),
        "errors": {"lean"},
        "patterns": {"lean"},
        "engine": {"errors"},
        "wire": _BASE | {"engine"},
        "message": _BASE | {"wire"},
        "mbox": _BASE | {"wire"},
        "auth": _BASE | {"engine", "wire"},
        "queue": _PROTOCOL,
        "smtp": _PROTOCOL,
        "pop3": _PROTOCOL,
        "imap": _PROTOCOL,
    },
}
# The queue keeps the replies of SMTP servers, so it may read their form.
EXCEPTIONS = {("mailtools.core.queue", "mailtools.core.smtp.reply")}
IMPURE = {
    "asyncio", "uvloop", "socket", "ssl", "select", "selectors", "threading", "multiprocessing", "subprocess",
    "os", "pathlib", "io", "shutil", "tempfile", "fcntl", "time", "random", "secrets", "logging", "click",
}  # fmt: skip


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def source_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports_of(path: Path) -> list[tuple[str, bool]]:
    """(module, is it imported while this module is imported)."""
    tree = source_of(path)
    lazy = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                target = full if full in ALL_NAMES else node.module
                found.append((target, id(node) not in lazy))
    return found


ALL_NAMES = {name_of(path) for path in MODULES}


def room_of(name: str) -> tuple[str, str] | None:
    """(floor, room) of a module; None for what stands outside the rooms: cli, __main__, a floor's package."""
    parts = name.split(".")
    return (parts[1], parts[2]) if len(parts) > 2 and parts[1] in FLOORS else None


def is_along_an_arrow(name: str, module: str) -> bool:
    """May the module *name* import *module*?"""
    here, there = room_of(name), room_of(module)
    if here is None or module == "mailtools":  # the package: its version
        return True
    floor, room = here
    top, _, inside = module.partition(".")
    if top != "mailtools":
        return floor != "core" or top not in IMPURE
    if inside.split(".")[0] not in FLOORS[floor]:
        return False
    if there is None or there[0] != floor or (f"mailtools.{floor}.{room}", module) in EXCEPTIONS:
        return True
    return there[1] == room or there[1] in ROOMS[floor][room]


def test_imports_only_along_the_arrows() -> None:
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in MODULES
        for module, _ in imports_of(path)
        if not is_along_an_arrow(name_of(path), module)
    ]
    assert not wrong, "\n".join(wrong)


def test_what_is_no_arrow() -> None:
    assert not is_along_an_arrow("mailtools.core.smtp.reply", "mailtools.core.imap.events")
    assert not is_along_an_arrow("mailtools.core.smtp.reply", "mailtools.system.clock")
    assert not is_along_an_arrow("mailtools.core.smtp.reply", "os")
    assert is_along_an_arrow("mailtools.system.clock", "os")
    assert is_along_an_arrow("mailtools.core.queue.dsn", "mailtools.core.smtp.reply")


@pytest.mark.parametrize("floor", FLOORS)
def test_every_room_is_in_the_table(floor: str) -> None:
    assert set(ROOMS[floor]) == {
        room[1] for name in ALL_NAMES if (room := room_of(name)) and room[0] == floor
    }


@pytest.mark.parametrize("floor", FLOORS)
def test_every_arrow_is_used(floor: str) -> None:
    used: dict[str, set[str]] = {room: set() for room in ROOMS[floor]}
    for path in MODULES:
        here = room_of(name_of(path))
        if here is not None and here[0] == floor:
            there = [room_of(module) for module, _ in imports_of(path) if module in ALL_NAMES]
            used[here[1]] |= {one[1] for one in there if one and one[0] == floor} - {here[1]}
    general = _BASE | _PROTOCOL | _COMMAND  # allowed to every room of a kind, whether it needs them or not
    unused = {room: ROOMS[floor][room] - used[room] - general for room in ROOMS[floor]}
    assert {room: its for room, its in unused.items() if its} == {}


@pytest.mark.parametrize("floor", FLOORS)
def test_no_cycle_between_rooms(floor: str) -> None:
    """Imports inside functions count too: a cycle that Python can bear is still one for the reader."""
    graph: dict[str, set[str]] = {room: set() for room in ROOMS[floor]}
    for path in MODULES:
        here = room_of(name_of(path))
        if here is not None and here[0] == floor:
            theirs = {room_of(module) for module, _ in imports_of(path) if module in ALL_NAMES}
            graph[here[1]] |= {there[1] for there in theirs if there and there[0] == floor} - {here[1]}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the rooms


def test_the_page_for_contributors_names_every_room() -> None:
    """The table of ARCHITECTURE.md: a row for each room, its path in the first cell."""
    named = set(
        re.findall(
            r"(?m)^\| `((?:commands|services|system|core)/\w+)` \|", (ROOT / "ARCHITECTURE.md").read_text()
        )
    )
    assert named == {f"{floor}/{room}" for floor, rooms in ROOMS.items() for room in rooms}


def test_no_two_public_classes_share_a_name() -> None:
    """So that a class is found by its name. (`mailtools.testing` is for others' tests and has names of its own.)"""
    places: dict[str, list[str]] = {}
    for path in MODULES:
        if room_of(name_of(path)) is None:
            continue
        for node in source_of(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name_of(path))
    assert {name: its for name, its in places.items() if len(its) > 1} == {}


# Modules of core, services and system that have no test file at their own path, and why.
_WITHOUT: dict[str, tuple[str, ...]] = {
    "the golden dialogues, tests/properties and tests/fuzz play it whole and octet by octet": (
        "core/auth/dialogue",
        "core/pop3/server",
        "core/smtp/server",
        "core/pop3/events",
        "core/smtp/events",
        "core/smtp/offer",
        "core/smtp/reply",
    ),
    "only names: errors, protocols or values without behaviour": (
        "core/auth/errors",
        "core/engine",
        "core/errors",
        "core/imap/events",
        "core/queue/store",
        "core/mbox/record",
        "core/message/recipient",
        "services/transit/outcome",
        "system/process/loop",
    ),
    "tests/system/mbox and tests/properties test it through index, snapshot and appending": (
        "core/mbox/catalog",
    ),
    "tests/services/smtp_client/test_sender.py drives it": ("services/smtp_client/transaction",),
    "test_background.py and test_blocking.py beside it test it": ("services/delivery/local",),
    "tests/services/queue/test_runner.py drives it": (
        "services/queue/courier",
        "services/queue/job",
        "services/queue/service",
        "services/queue/spooled",
    ),
    "test_commands.py beside it parses whole commands": (
        "core/imap/cursor",
        "core/imap/fetch_items",
        "core/imap/search_keys",
    ),
    "tests/dialogues and tests/commands play it in a running server": (
        "services/imap_server/fetch",
        "services/imap_server/mailboxes",
        "services/imap_server/search",
        "services/imap_server/selected",
        "services/imap_server/service",
        "services/imap_server/view",
        "services/users/choice",
        "services/smtp_server/relay",
        "services/smtp_server/service",
        "services/smtp_server/session",
        "services/pop3_server/service",
        "services/pop3_server/session",
    ),
    "tests/commands/test_send.py and tests/commands/sendmail run it in the programs": (
        "services/submission/prepare",
        "services/submission/sendmail_smtp",
    ),
    "tests/services/filters/test_listing.py and tests/commands/mbox test it through listings": (
        "services/filters/entries",
        "services/filters/threads",
    ),
    "tests/system/net/test_server.py runs servers with it": (
        "system/net/listeners",
        "system/net/server_connection",
    ),
    "tests/system/spool/test_spool.py reads and writes with it": ("system/spool/queue_files",),
    "tests of TLS on both sides use its certificates": ("system/tls/certificates",),
}
WITHOUT_TEST_FILE = {module: reason for reason, modules in _WITHOUT.items() for module in modules}


def test_every_module_has_a_test_file_of_its_path() -> None:
    missing = set()
    for path in MODULES:
        here = room_of(name_of(path))
        if here is None or here[0] == "commands" or path.name == "__init__.py":
            continue
        inside = path.relative_to(PACKAGE)
        if not (ROOT / "tests" / inside.parent / f"test_{inside.name}").exists():
            missing.add(str(inside.with_suffix("")))
    assert missing == set(WITHOUT_TEST_FILE)


def test_click_stays_at_the_door_and_asyncio_in_the_world() -> None:
    places = {
        "click": {"cli", "commands"},
        "asyncio": {"system", "testing"},
        "uvloop": {"system", "testing"},
    }
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in MODULES
        for module, _ in imports_of(path)
        if (allowed := places.get(module.split(".")[0]))
        and (name_of(path).split(".") + [""])[1] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_no_cycles() -> None:
    graph = {
        name_of(path): {m for m, eager in imports_of(path) if m in ALL_NAMES and m != name_of(path)}
        for path in MODULES
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module in done:
            return
        for other in graph.get(module, ()):
            visit(other, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_no_file_over_500_lines() -> None:
    """Which wall is missing?"""
    wrong = [
        f"{name_of(path)} has {lines} lines"
        for path in MODULES
        if (lines := path.read_text().count("\n")) > 500
    ]
    assert not wrong, "\n".join(wrong)


def test_no_function_over_60_lines() -> None:
    wrong = [
        f"{name_of(path)}: {node.name} has {lines} lines"
        for path in MODULES
        for node in ast.walk(source_of(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > 60
    ]
    assert not wrong, "\n".join(wrong)
