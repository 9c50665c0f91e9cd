"""Replaces the parts of `typing` that modules of a short-lived program use, without importing `typing`.

`mailtools-sendmail` may take twice as long as ``python3 -I -c pass``, and `typing` with the `re` that it
imports is 0.5 of that. A type checker sees the names of `typing`. Like `typing`, our `NamedTuple` creates a
`collections.namedtuple`, which is as fast. Modules that `mailtools-sendmail` imports use these names.
"""

from collections import namedtuple

__all__ = ["TYPE_CHECKING", "Any", "NamedTuple", "NoReturn", "Protocol", "Self"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple, NoReturn, Protocol, Self
else:
    Any = NoReturn = Protocol = Self = object
    _MADE = {"__module__", "__qualname__", "__annotations__", "__doc__"}

    class _Maker(type):
        """Creates a namedtuple from the annotations of a class."""

        def __new__(mcls, name, bases, body):
            if not bases:
                return super().__new__(mcls, name, bases, body)
            fields = body.get("__annotations__", {})
            defaults = [body[field] for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            made.__doc__ = body.get("__doc__")
            made.__qualname__ = body["__qualname__"]
            made.__annotations__ = made.__new__.__annotations__ = fields
            for key, value in body.items():
                if key not in _MADE and key not in fields:
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Maker):
        """The base of namedtuple classes, used like `typing.NamedTuple`."""
