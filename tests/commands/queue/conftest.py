"""A queue, and its commands."""

import sys
from pathlib import Path

import pytest

from mailtools.system.spool.spool import Spool
from tests.spools import Queue


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path / "Mail" / ".spool"), lambda warning: print(warning, file=sys.stderr))


@pytest.fixture
def queue(spool: Spool) -> Queue:
    return Queue(spool.path)
