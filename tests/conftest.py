"""What tests of every floor share."""

import lzma
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

# Real programs are asked by scripts/interop, which installs them.
collect_ignore = [] if os.environ.get("MAILTOOLS_INTEROP") else ["interop"]

# A test that fails to send must not leave mail in the queue of whoever runs it; those of the queue say so.
os.environ["MAILTOOLS_SEND_QUEUE"] = "never"

# Started in the background (`nohup scripts/test &`), the tests inherit that Ctrl-C and a hang-up are ignored, and
# so would every program that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).parent.parent
OWN_CORPUS = ROOT / "tests" / "corpus"


@pytest.fixture
def own() -> Path:
    """The folder of messages written for these tests."""
    return OWN_CORPUS


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may write to; those of pytest are for one user."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.fixture(scope="session")
def easy_ham(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,400 messages of real lists. MAILTOOLS_CORPUS names their folder; else it is beside the repository."""
    folder = Path(os.environ.get("MAILTOOLS_CORPUS") or ROOT.parent / "shared" / "corpus")
    packed = folder / "easy-ham-2.mbox.xz"
    if not packed.exists():
        pytest.skip(f"no corpus: {packed} is missing (MAILTOOLS_CORPUS names its folder)")
    plain = tmp_path_factory.mktemp("corpus") / "easy-ham-2.mbox"
    plain.write_bytes(lzma.decompress(packed.read_bytes()))
    return plain


@pytest.fixture
def untraced() -> Iterator[None]:
    """Coverage does not look on. For floods of octets, which run a million times through lines that others cover."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.fixture
def reader() -> Callable[..., Callable[[int], bytes]]:
    """A read function over octets, that gives no more than *most* at a time."""

    def over(octets: bytes, most: int = sys.maxsize) -> Callable[[int], bytes]:
        file = BytesIO(octets)
        return lambda size: file.read(min(size, most))

    return over
