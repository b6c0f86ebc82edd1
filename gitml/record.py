"""Records: classes of values, declared as data classes are, at a fraction of what those cost when a program starts.

`dataclass` of the standard library writes six functions for each class and has them compiled, used or not, which takes
a millisecond. Here most are shared, and the others compiled when they are first called: the constructor, `==`, `hash`.

A record is frozen and has slots unless it says otherwise. What differs from data classes: assigning to a frozen one
is a plain `AttributeError`, a method cannot say `super()` without arguments, and a record that holds itself has no
`repr`. Design note 0019.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform, overload

if TYPE_CHECKING:  # what these take and give is known to mypy by name: it checks the arguments of `replace`, too
    from dataclasses import field, replace

__all__ = ["asdict", "field", "names", "record", "replace"]

_T = TypeVar("_T")

_ABSENT: Any = object()


class _Field:
    __slots__ = ("compare", "default", "default_factory", "kw_only", "repr")

    def __init__(self, default: Any, default_factory: Any, repr: bool, compare: bool) -> None:  # noqa: A002 - as `field`
        self.default = default
        self.default_factory = default_factory
        self.repr = repr
        self.compare = compare
        self.kw_only = False


if not TYPE_CHECKING:

    def field(*, default=_ABSENT, default_factory=_ABSENT, repr=True, compare=True):  # noqa: A002 - as in `dataclasses`
        """A field of which there is more to say than its default."""
        return _Field(default, default_factory, repr, compare)

    def replace(item, /, **changes):
        """The record with other values in some fields."""
        for name in item.__record__:
            if name not in changes:
                changes[name] = getattr(item, name)
        return item.__class__(**changes)


def names(item: Any) -> tuple[str, ...]:
    """The names of the fields of a record."""
    return tuple(item.__record__)


def asdict(item: Any) -> dict[str, Any]:
    """The fields of a record by their names; records within it, also in lists, tuples and dicts, are dicts as well."""
    return {name: _plain(getattr(item, name)) for name in item.__record__}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, list):
        return list(map(_plain, value))
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return asdict(value) if hasattr(value, "__record__") else value


@overload
def record(cls: type[_T], /) -> type[_T]: ...
@overload
def record(
    *, frozen: bool = True, slots: bool = True, kw_only: bool = False, eq: bool = True
) -> Callable[[type[_T]], type[_T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(
    cls: type[_T] | None = None,
    /,
    *,
    frozen: bool = True,
    slots: bool = True,
    kw_only: bool = False,
    eq: bool = True,
) -> type[_T] | Callable[[type[_T]], type[_T]]:
    """Make a class a record. `slots=False` is for classes that keep something else in their instances."""
    if cls is None:
        return lambda cls: _made(cls, frozen, slots, kw_only, eq)
    return _made(cls, frozen, slots, kw_only, eq)


def _made(cls: type[_T], frozen: bool, slots: bool, kw_only: bool, eq: bool) -> type[_T]:
    members = dict(cls.__dict__)
    own = {}
    for name, annotation in cls.__annotations__.items():
        if getattr(annotation, "__origin__", annotation) is not ClassVar:
            own[name] = _declared(name, members.pop(name, _ABSENT), kw_only)
    inherited: dict[str, _Field] = {}
    for base in reversed(cls.__mro__[1:]):
        inherited.update(_fields(base))
    fields = {**inherited, **own}
    written: dict[str, Any] = {
        "__record__": fields,
        "__match_args__": tuple(name for name, each in fields.items() if not each.kw_only),
        "__init__": _Later(lambda owner: _constructor(owner, frozen, slots)),
        "__repr__": _repr,
    }
    if eq:
        written["__eq__"] = _Later(_equality)
        written["__hash__"] = _Later(_hashing) if frozen else None
    if frozen:
        written["__setattr__"] = written["__delattr__"] = _refuse
    if frozen and slots:
        written["__getstate__"], written["__setstate__"] = _getstate, _setstate
    # slots are laid out when a class is made, so it is made again, without what making it adds
    members.pop("__dict__", None)
    members.pop("__weakref__", None)
    if slots:
        members["__slots__"] = tuple(name for name in own if name not in inherited)
    kind: Any = type(cls)
    made: type[_T] = kind(cls.__name__, cls.__bases__, {**written, **members, "__qualname__": cls.__qualname__})
    return made


def _fields(cls: type) -> Mapping[str, _Field]:
    found: Mapping[str, _Field] = cls.__dict__.get("__record__", {})
    return found


def _declared(name: str, value: Any, kw_only: bool) -> _Field:
    declared = value if isinstance(value, _Field) else _Field(value, _ABSENT, True, True)
    if declared.default.__hash__ is None:
        raise TypeError(f"all instances would share the default of {name!r}: use default_factory")
    declared.kw_only = kw_only
    return declared


class _Later:
    """A method that is written when somebody first asks for it. Threads may do so at once: all write the same."""

    __slots__ = ("_name", "_owner", "_write")

    def __init__(self, write: Callable[[Any], Any]) -> None:
        self._write = write

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        made = self._write(self._owner)
        setattr(self._owner, self._name, made)
        return made.__get__(instance, owner)


def _constructor(cls: Any, frozen: bool, slots: bool) -> Any:
    """`__init__` as one would write it; frozen fields are set past `__setattr__`."""
    known: dict[str, Any] = {"_absent_": _ABSENT, "_set_": object.__setattr__}
    parameters = ["self"]
    lines = []
    for number, (name, each) in enumerate(sorted(cls.__record__.items(), key=lambda item: item[1].kw_only)):
        if each.kw_only and "*" not in parameters:
            parameters.append("*")
        value = name
        if each.default_factory is not _ABSENT:
            known[f"_make_{number}_"] = each.default_factory
            parameters.append(f"{name}=_absent_")
            value = f"_make_{number}_() if {name} is _absent_ else {name}"
        elif each.default is not _ABSENT:
            known[f"_default_{number}_"] = each.default
            parameters.append(f"{name}=_default_{number}_")
        else:
            parameters.append(name)
        if not frozen:
            lines.append(f"self.{name} = {value}")
        elif slots:
            known[f"_set_{number}_"] = getattr(cls, name).__set__
            lines.append(f"_set_{number}_(self, {value})")
        else:
            lines.append(f"_set_(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    return _compiled(cls, "__init__", ", ".join(parameters), lines or ["pass"], known)


def _equality(cls: Any) -> Any:
    lines = [
        "if self.__class__ is other.__class__:",
        f" return {_values(cls, 'self')} == {_values(cls, 'other')}",
        "return NotImplemented",
    ]
    return _compiled(cls, "__eq__", "self, other", lines, {})


def _hashing(cls: Any) -> Any:
    return _compiled(cls, "__hash__", "self", [f"return hash({_values(cls, 'self')})"], {})


def _values(cls: Any, of: str) -> str:
    """The tuple of what is compared, as source."""
    return f"({''.join(f'{of}.{name}, ' for name, each in cls.__record__.items() if each.compare)})"


def _compiled(cls: Any, name: str, parameters: str, lines: list[str], known: dict[str, Any]) -> Any:
    exec(f"def {name}({parameters}):\n " + "\n ".join(lines), known)  # noqa: S102 - of names that stand in this program
    made = known[name]
    made.__module__ = cls.__module__
    made.__qualname__ = f"{cls.__qualname__}.{name}"
    return made


def _repr(self: Any) -> str:
    shown = (f"{name}={getattr(self, name)!r}" for name, each in self.__record__.items() if each.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _refuse(self: Any, name: str, *_: object) -> None:
    raise AttributeError(f"{self.__class__.__qualname__} is frozen: cannot change {name!r}")


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__record__]


def _setstate(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__record__, state, strict=True):
        object.__setattr__(self, name, value)
