"""The house keeps its floors: who may import whom, read from the source with `ast`."""

import ast
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
# Inside core: a room may import itself and the rooms named here; `errors` and `engine` belong to all.
ROOMS = {
    "errors": {"lean"},
    "lean": set(),
    "patterns": {"lean"},
    "engine": {"errors"},
    "wire": {"errors", "engine", "patterns", "lean"},
    "message": {"wire", "errors", "patterns", "lean"},
    "mbox": {"wire", "errors", "patterns", "lean"},
    "auth": {"wire", "errors", "patterns", "lean"},
    "queue": {"message", "mbox", "auth", "wire", "errors", "engine", "patterns", "lean"},
    "pop3": {"message", "mbox", "auth", "wire", "errors", "engine", "patterns", "lean"},
    "imap": {"message", "mbox", "auth", "wire", "errors", "engine", "patterns", "lean"},
    "smtp": {"message", "mbox", "auth", "wire", "errors", "engine", "patterns", "lean"},
}
IMPURE = {
    "asyncio", "uvloop", "socket", "ssl", "select", "selectors", "threading", "multiprocessing", "subprocess",
    "os", "pathlib", "io", "shutil", "tempfile", "fcntl", "time", "random", "secrets", "logging", "click",
}  # fmt: skip


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """(module, is it imported while this module is imported)."""
    tree = ast.parse(path.read_text())
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


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_along_the_arrows(path: Path) -> None:
    name = name_of(path).split(".")
    if len(name) < 2 or name[1] not in FLOORS:
        return  # the package itself, cli and __main__ stand outside the floors
    for module, _ in imports_of(path):
        parts = module.split(".")
        if parts[0] != "mailtools":
            if name[1] == "core":
                assert parts[0] not in IMPURE, f"{name_of(path)} imports {module}"
            continue
        if len(parts) == 1:
            continue  # the package: its version
        assert parts[1] in FLOORS[name[1]], f"{name_of(path)} imports {module}"
        if name[1] == "core" and parts[1] == "core" and len(name) > 2 and len(parts) > 2:
            room, other = name[2], parts[2]
            reads_replies = room == "queue" and module.startswith("mailtools.core.smtp.reply")
            assert other == room or other in ROOMS[room] or reads_replies, f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_click_stays_at_the_door_and_asyncio_in_the_world(path: Path) -> None:
    floor = (name_of(path).split(".") + ["", ""])[1]
    for module, _ in imports_of(path):
        top = module.split(".")[0]
        if top == "click":
            assert floor in {"cli", "commands"}, name_of(path)
        if top in {"asyncio", "uvloop"}:
            assert floor in {"system", "testing"}, name_of(path)


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


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500, "a file over 500 lines: which wall is missing?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"
