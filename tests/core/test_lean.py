"""A tuple with names, as `typing` has it, is one without it."""

import pickle
import subprocess
import sys
import typing

import pytest

from mailtools.core.lean import NamedTuple


class Point(NamedTuple):
    """A class as our modules have them."""

    x: int
    y: int = 2

    @property
    def sum(self) -> int:
        return self.x + self.y


class Typed(typing.NamedTuple):
    """The same."""

    x: int
    y: int = 2

    @property
    def sum(self) -> int:
        return self.x + self.y


def test_it_is_a_tuple_with_names() -> None:
    point = Point(1)
    assert point == (1, 2) == Point(y=2, x=1)
    assert (point.x, point.y, point.sum) == (1, 2, 3)
    assert point._replace(y=5) == (1, 5)
    assert repr(point) == "Point(x=1, y=2)"
    assert pickle.loads(pickle.dumps(point)) == point
    with pytest.raises(AttributeError):
        point.x = 3  # type: ignore[misc]


def test_it_has_what_typings_has() -> None:
    apart = {"__orig_bases__", "__slotnames__"}  # of typing's own; what pickle leaves there
    assert set(vars(Point)) - apart == set(vars(Typed)) - apart
    for name in ("__module__", "_fields", "_field_defaults", "__match_args__", "__annotations__"):
        assert getattr(Point, name) == getattr(Typed, name)
    assert Point.__doc__ == "A class as our modules have them."
    assert Point.__mro__[1:] == Typed.__mro__[1:] == (tuple, object)


@pytest.mark.parametrize(
    "call", [lambda: Point(), lambda: Point(1, 2, 3), lambda: Point(1, z=3), lambda: Point(1, x=2)]
)
def test_wrong_values_are_told(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TypeError):
        call()


def test_typing_is_not_imported() -> None:
    line = (
        f"import sys; sys.path[:0] = {sys.path!r}; import mailtools.core.lean; print('typing' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", line], capture_output=True, check=True)
    assert done.stdout == b"False\n"
