"""Help, man pages, README and behaviour agree."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mailtools import __version__
from mailtools.cli import command as top
from tests.dialogues.player import InMemory, check_mboxes, play, read
from tests.servers import Pop3Server, Server

ROOT = Path(__file__).parent.parent
MAN = ROOT / "man"
PAGES = sorted(MAN.iterdir())
MAILTOOLS = [sys.executable, "-m", "mailtools"]


def walk(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from walk(inner, (*path, name))


COMMANDS = dict(walk(top))


def page_of(path: tuple[str, ...]) -> Path:
    """A command inside another shares its page."""
    return MAN / ("-".join(("mailtools", *path[:1])) + ".1")


def long_options(command: click.Command) -> set[str]:
    named = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    return {name for name in named if name.startswith("--")}


def options_in(page: Path) -> set[str]:
    """Every long option that a page has an entry for."""
    found = set()
    for line in page.read_text().splitlines():
        if line.startswith(".It "):
            found |= {f"--{name}" for name in re.findall(r"Fl -([a-z][a-z0-9-]*)", line)}
    return found


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_has_help(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, f"{' '.join(path)} {param.opts}"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_is_in_the_man_page(path: tuple[str, ...]) -> None:
    missing = long_options(COMMANDS[path]) - options_in(page_of(path)) - {"--help", "--version"}
    assert not missing


@pytest.mark.parametrize("page", [p for p in PAGES if p.suffix == ".1"], ids=lambda p: p.name)
def test_no_page_names_an_option_that_is_not_there(page: Path) -> None:
    here = [command for path, command in COMMANDS.items() if page_of(path) == page]
    assert here, "a page without a command"
    known = set().union(*(long_options(command) for command in here)) | {"--help", "--version"}
    assert options_in(page) <= known


@pytest.mark.parametrize("path", [p for p in COMMANDS if p], ids=" ".join)
def test_every_command_is_named_in_its_page(path: tuple[str, ...]) -> None:
    text = page_of(path).read_text()
    assert f"mailtools {path[0]}" in text
    if len(path) > 1:
        assert f".It Cm {path[1]}" in text


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_defaults_in_the_page_are_those_of_the_command(path: tuple[str, ...]) -> None:
    text = page_of(path).read_text()
    for param in COMMANDS[path].params:
        if isinstance(param, click.Option) and param.show_default and param.opts[0].startswith("--"):
            name = param.opts[-1].lstrip("-")
            entry = re.search(rf"^\.It Fl -{name}\b.*?(?=^\.It |^\.El)", text, re.MULTILINE | re.DOTALL)
            assert entry, name
            default = str(param.default)
            assert re.search(rf"(default,?\s[^.]*|\.Cm |\.Pa |default: ?){re.escape(default)}", entry[0]), (
                f"{name}: the default is {default}"
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pages_refer_to_pages_that_exist(page: Path) -> None:
    for name, section in re.findall(r"\.Xr (mailtools[a-z-]*) (\d)", page.read_text()):
        assert (MAN / f"{name}.{section}").exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_pages_render_without_warnings(page: Path) -> None:
    done = subprocess.run(
        ["groff", "-mandoc", "-ww", "-Tutf8", "-z", str(page)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_the_changelog_has_this_version() -> None:
    assert f"## {__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_the_readme_names_every_command_and_nothing_that_is_not_there() -> None:
    text = (ROOT / "README.md").read_text()
    for path in COMMANDS:
        if path:
            assert path[-1] in text
    for name in re.findall(r"mailtools ([a-z][a-z0-9-]+)", text):
        assert (name,) in COMMANDS, name
    for script in re.findall(r"scripts/[a-z]+", text):
        assert os.access(ROOT / script, os.X_OK), script


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_pages_for_contributors_name_files_that_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    short = {"smtp/": "tests/dialogues/smtp/", "pop3/": "tests/dialogues/pop3/"}
    for path in re.findall(r"`([\w./-]+/[\w.-]*)`", text):
        if re.search(r"[A-Z]{2}", path) or path.startswith("~") or path == "crashes/":
            continue  # a placeholder: PROTOCOL, NAME
        places = [path, f"mailtools/{path}", f"tests/{path}"]
        places += [long + path.removeprefix(head) for head, long in short.items() if path.startswith(head)]
        if "." not in path.rpartition("/")[2]:
            places += [f"{place}.py" for place in places]
        assert any((ROOT / place).exists() for place in places), path


def test_walks_name_what_is_in_the_file() -> None:
    """A name followed by its file, as in ``Runner`` in ``services/queue/runner.py``, stands in that file."""
    found = re.findall(
        r"`([A-Za-z_]\w*)(?:\.(\w+))?`\s+(?:in|\()\s*`(\w+/[\w/]+\.py)`",
        (ROOT / "ARCHITECTURE.md").read_text(),
    )
    assert len(found) > 30
    for name, method, path in found:
        source = (ROOT / "mailtools" / path).read_text()
        assert re.search(rf"^(class|def|async def) {name}\b|^{name}\b.* = ", source, re.MULTILINE), (
            name,
            path,
        )
        assert not method or re.search(rf"^    def {method}\b", source, re.MULTILINE), (name, method, path)


def test_the_dialogue_for_contributors_is_one(tmp_path: Path) -> None:
    block = re.search(
        r"^```\n(rfc: .*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert block
    path = tmp_path / "example.txt"
    path.write_text(block[1])
    for piece in (0, 1):
        root = tmp_path / f"root-{piece}"
        script = read(path)
        play(script, InMemory(script, root, piece))
        check_mboxes(script, root)


# -- examples ------------------------------------------------------------------------------------------------


_OTHERS = ("mutt", "set ", "git config", "ln ")  # lines of other programs' configuration


def examples() -> Iterator[tuple[str, str]]:
    """Every command line of an EXAMPLES section or of a help text that is ours."""
    for page in PAGES:
        section = page.read_text().partition(".Sh EXAMPLES")[2].partition(".Sh ")[0]
        for block in re.findall(r"\.Bd -literal.*?\n(.*?)\.Ed", section, re.DOTALL):
            for line in block.splitlines():
                if "mailtools" in line and "_COMPLETE" not in line and not line.startswith(_OTHERS):
                    yield page.name, line.replace("\\-", "-")
    for path, command in COMMANDS.items():
        for line in (command.help or "").splitlines():
            if line.strip().startswith(("mailtools ", "zcat ")):
                yield " ".join(path), line.strip()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Server, Server]]:
    """A folder with what the examples name, and servers of SMTP and POP3."""
    folder = tmp_path_factory.mktemp("examples")
    corpus = ROOT / "tests" / "corpus"
    names = ("chinese", "words", "nested")  # what SMTP can carry
    postmark = b"From alice@example.org Thu Aug 22 12:00:00 2002\n"
    box = b"".join(postmark + (corpus / f"{name}.eml").read_bytes() + b"\n\n" for name in names)
    for name in ("inbox.mbox", "archive.mbox", "Mail/bob/INBOX.mbox"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(box)
    for year in ("2019", "2024", "2025"):
        import gzip

        (folder / f"{year}.mbox.gz").write_bytes(gzip.compress(box))
    (folder / "msg.eml").write_bytes(
        b"From: alice@example.org\nSubject: lunch spam\nTo: bob@localhost\n\nHi\n"
    )
    (folder / "secret").write_text("secret\n")
    (folder / "pw").write_text("secret\n")
    (folder / "aliases").write_text("postmaster: bob\n")
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    (bin_folder / "mailtools").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mailtools "$@"\n')
    (bin_folder / "jq").write_text("#!/bin/sh\nexec cat\n")  # what it prints is not ours to test
    for program in bin_folder.iterdir():
        program.chmod(0o755)
    with Server(folder / "root") as server, Pop3Server(folder / "Mail", "--dev") as maildrop:
        yield folder, server, maildrop


def starts(line: str, folder: Path) -> None:
    """A server starts, and ends when it is told to."""
    (folder / "Mail" / "users").write_text("bob:{PLAIN}secret\n")
    environment = os.environ | {"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": str(folder)}
    process = subprocess.Popen(
        ["bash", "-c", f"exec {line}"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    assert process.stderr.readline().startswith("listening "), line
    process.terminate()
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize(("where", "line"), list(dict.fromkeys(examples())))
def test_examples_run(place: tuple[Path, Server, Server], where: str, line: str) -> None:
    folder, server, maildrop = place
    line = line.rstrip("& ")
    if "serve-pop3" in line or "serve-imap" in line:
        starts(re.sub(r"--port \d+", "--port 0", line), folder)
        return
    line = line.replace("--port 1110", f"--port {maildrop.port}")
    line = re.sub(r"--port 2525|:2525", lambda m: m[0].replace("2525", str(server.port)), line)
    if "serve-smtp" in line:  # a server of its own, which shall end by itself
        line = re.sub(r"--port \d+", "--port 0", line)
        line = line.replace("--exit-after 1", "").replace("--total-timeout 1m", "")
        line = line.replace("serve-smtp", "serve-smtp --total-timeout 500ms", 1)
    users = folder / "Mail" / "users"
    users.unlink(missing_ok=True)
    if (" user " in line and " add " not in line) or "--aliases" in line:
        users.write_text("bob:{PLAIN}secret\n")
    environment = os.environ | {"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=folder, env=environment, capture_output=True, text=True,
        check=False, input="secret\n" if " user " in line else "", timeout=60,
    )  # fmt: skip
    allowed = {75} if "serve-smtp" in line else {0}
    if any(word in line for word in ("mbox", " queue ", " fetch ")):
        allowed |= {1}  # what an example before it left, or took
    if "queue run" in line:
        allowed |= {75}  # what the other examples left waits
    assert done.returncode in allowed, f"{line}\n{done.stderr}"
    assert "Traceback" not in done.stderr
