"""What a frozen dataclass gives, for the values that a hook makes, without what `dataclasses` costs.

Importing `dataclasses` brings `inspect` in and compiles each class anew: a hook would wait for that longer than for the
disk (docs/decisions.md). `typing` would cost it as much as the disk does, so modules that a hook loads import from it
under `TYPE_CHECKING = False`: checkers take a variable of that name for true. They see a frozen dataclass here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_options):
        """What it does at run time: nothing."""
        return lambda made: made


class _Fields:
    """What `dataclasses.replace` and `asdict` ask for, made once somebody does: only who has it imported can."""

    def __get__(self, _value: object, kind: type[Value]) -> dict[str, Any]:
        from dataclasses import fields, make_dataclass

        return {field.name: field for field in fields(make_dataclass(kind.__name__, kind._names))}


@dataclass_transform(frozen_default=True)
class Value:
    """Base of values: fields are the class's annotations in order, defaults its attributes, those fields last.

    Equal to another of the same class with equal fields, hashable if they are. Raises TypeError for a field that is
    missing, unknown or given twice, and AttributeError for setting one.
    """

    __dataclass_fields__ = _Fields()
    _names: ClassVar[tuple[str, ...]] = ()
    _known: ClassVar[frozenset[str]] = frozenset()
    _needed: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        cls._names = tuple(dict.fromkeys((*cls._names, *cls.__annotations__)))
        cls._known = frozenset(cls._names)
        cls._needed = frozenset(name for name in cls._names if not hasattr(cls, name))

    def __init__(self, *given: Any, **named: Any) -> None:
        made = self.__dict__  # filled past `__setattr__`, which refuses
        made.update(zip(self._names, given, strict=False))
        if named:
            made.update(named)
        # Names are looked at only where they can be wrong: each message makes a few of these.
        if (
            len(made) != len(given) + len(named)
            or (len(given) < len(self._needed) and not self._needed <= made.keys())
            or (named and not self._known >= made.keys())
        ):
            raise TypeError(
                f"{type(self).__name__} has the fields {', '.join(self._names)}, each at most once"
            )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} does not change; make another one with `replaced`")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def replaced(self, **changes: Any) -> Self:
        """The same value but for these fields; `dataclasses.replace` does the same."""
        return type(self)(**{**self.__dict__, **changes})

    def _fields(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self._names])

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__ or not isinstance(other, Value):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)
        return f"{type(self).__qualname__}({shown})"
