"""Pickles, and what joblib and PyTorch make of them, read by a machine that only remembers.

The opcodes are those of Python's pickle protocols 0 to 5 (Lib/pickletools.py). Where a real unpickler would import
a name or call something, this one notes it: a `Global`, a `Made` from a callable and arguments, a `Persistent`. Nothing
is imported, nothing called. Long byte strings are not read, only where they are.
"""

import codecs
import struct
from collections.abc import Callable, Iterator
from typing import Any

from gitml.formats.source import MOST_ITEMS, Source
from gitml.formats.summary import FormatError, brief
from gitml.record import field, record

_MOST_OPCODES = 20_000_000
_LONGEST_TEXT = 1 << 20
"""Bytes up to which a text is kept. Protocols 0 to 2 have the bytes of arrays as text."""
_LONGEST_LINE = 64 << 20
_LONGEST_NAME = 1000
_KEPT = 4096
"""Bytes up to which a byte string is kept, not only where it is."""


@record
class Global:
    """A class or function that would be imported; a dotted name is looked up from one object to the next."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@record(frozen=False, eq=False)
class Made:
    """What a call would give, and what would be done to it afterwards."""

    what: Any
    arguments: Any
    state: Any = None
    items: list[tuple[Any, Any]] = field(default_factory=list)
    appended: list[Any] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The class that it is of, or the function that makes it; '' if that is not named outright."""
        if isinstance(self.what, Global) and self.what.name == "_reconstructor" and isinstance(self.arguments, tuple):
            # how protocols 0 and 1 make objects (copyreg.py)
            return str(self.arguments[0]) if self.arguments and isinstance(self.arguments[0], Global) else ""
        return str(self.what) if isinstance(self.what, Global) else ""


@record(eq=False)
class Persistent:
    """An object that is stored elsewhere."""

    pid: Any


@record(eq=False)
class Bytes:
    """A byte string in the file, or a text that is too long to be kept; `data` if it is short."""

    offset: int
    length: int
    data: bytes | None


class _Mark:
    """Where the arguments of a later opcode begin."""


_MARK = _Mark()


class _Unknown:
    """A global whose name is not text, so nobody knows it before it runs."""

    def __str__(self) -> str:
        return "a name that is computed"


UNKNOWN = _Unknown()


class Machine:
    """Reads one pickle. `globals` has every name that it refers to, in the order of appearance.

    A name that stands for no `Global` is one that nobody knows before it is loaded.
    """

    def __init__(self, source: Source, after_build: Callable[["Machine", Made], Any] | None = None) -> None:
        self.source = source
        self.globals: dict[str, Global | None] = {}
        self._after_build = after_build
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object that the pickle stands for; raise `FormatError`."""
        read = self.source.read
        for _ in range(_MOST_OPCODES):
            code = read(1)
            if code == b".":
                return self._pop()
            try:
                step = _STEPS[code]
            except KeyError:
                raise FormatError(f"unknown opcode {code!r} at {self.source.tell() - 1}") from None
            try:
                step(self)
            except (IndexError, ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
                raise FormatError(f"a broken pickle: {type(error).__name__} at {self.source.tell()}") from None
            if len(self._stack) > MOST_ITEMS or len(self._memo) > 10 * MOST_ITEMS:
                raise FormatError("the pickle has too many objects")
        raise FormatError(f"the pickle has more than {_MOST_OPCODES} opcodes")

    def _pop(self) -> Any:
        if not self._stack:
            raise FormatError("a broken pickle: nothing to take")
        found = self._stack.pop()
        if found is _MARK:
            raise FormatError("a broken pickle: a mark instead of an object")
        return found

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _marked(self) -> list[Any]:
        found = []
        while True:
            value = self._stack.pop()
            if value is _MARK:
                break
            found.append(value)
        found.reverse()
        return found

    def _line(self) -> bytes:
        return self.source.line(_LONGEST_LINE)

    def _bytes(self, length: int) -> Bytes:
        offset = self.source.tell()
        if length <= _KEPT:
            return Bytes(offset, length, self.source.read(length))
        self.source.skip(length)
        return Bytes(offset, length, None)

    def _text(self, length: int) -> str | Bytes:
        if length > _LONGEST_TEXT:
            return Bytes(*self.source.skip(length), None)
        return self.source.read(length).decode("utf-8", "surrogatepass")

    def _old_string(self, length: int) -> str | Bytes:
        # a str of Python 2; Python 3 decodes it as ASCII, or not at all
        found = self._bytes(length)
        return found.data.decode() if found.data is not None and found.data.isascii() else found

    def _global(self, module: Any, name: Any) -> Any:
        if not (isinstance(module, str) and isinstance(name, str)):
            self.globals.setdefault(str(UNKNOWN), None)
            return UNKNOWN
        found = Global(module, name)
        self.globals[str(found)] = found
        return found

    def _call(self, what: Any, arguments: Any) -> None:
        if not isinstance(what, Global) and what is not UNKNOWN:
            # calling what a call gave, or a method of it
            self.globals.setdefault(str(UNKNOWN), None)
        self._push(Made(what, arguments))

    def _build(self) -> None:
        state = self._pop()
        target = self._stack[-1]
        if isinstance(target, Made):
            target.state = state
            if self._after_build is not None:
                self._stack[-1] = self._after_build(self, target)

    def _set_items(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        listed = list(zip(pairs[::2], pairs[1::2], strict=True))
        if isinstance(target, dict):
            target.update({_hashable(key): value for key, value in listed})
        elif isinstance(target, Made):
            target.items += listed

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target += values
        elif isinstance(target, set):
            target.update(map(_hashable, values))
        elif isinstance(target, Made):
            target.appended += values

    def _remember(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _recall(self, index: int) -> None:
        self._push(self._memo[index])

    def _frame(self) -> None:
        self.source.unpack("Q")  # only a hint for readers that buffer


class _Key:
    """Stands for a key that is not plain: hashes and texts of tuples of tuples can take longer than anyone waits."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _hashable(value: Any) -> Any:
    plain = str | int | float | None | Global
    if isinstance(value, plain) or (isinstance(value, tuple) and all(isinstance(each, plain) for each in value)):
        return value
    return _Key(value)


def _integer(data: bytes) -> int | bool:
    if data in (b"00", b"01"):
        return data == b"01"
    try:
        return int(data, 0)
    except ValueError:
        return int(data, 8)  # as C reads it


def _long(machine: Machine, count: int) -> None:
    if count > 1 << 16:
        raise FormatError(f"a number has {count} bytes")
    machine._push(int.from_bytes(machine.source.read(count), "little", signed=True))


def _string(machine: Machine) -> None:
    text = machine._line()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in b"'\"":
        raise FormatError("a broken pickle: a string without quotes")
    # what is escaped may be a name: 'po\\x73ix'
    machine._push(codecs.escape_decode(text[1:-1])[0].decode("latin-1"))


def _of(layout: str) -> Callable[[Machine], int]:
    return lambda machine: int(machine.source.unpack(layout))


_U1, _U2, _I4, _U4, _U8 = _of("B"), _of("H"), _of("i"), _of("I"), _of("Q")


def _inst(machine: Machine) -> None:
    module, name = machine._line().decode(), machine._line().decode()
    arguments = tuple(machine._marked())
    machine._call(machine._global(module, name), arguments)


def _obj(machine: Machine) -> None:
    what, *arguments = machine._marked()
    machine._call(what, tuple(arguments))


def _newobj(machine: Machine) -> None:
    arguments, what = machine._pop(), machine._pop()
    machine._call(what, arguments)


def _newobj_ex(machine: Machine) -> None:
    keywords, arguments, what = machine._pop(), machine._pop(), machine._pop()
    machine._call(what, (arguments, keywords))


def _stack_global(machine: Machine) -> None:
    name, module = machine._pop(), machine._pop()
    machine._push(machine._global(module, name))


def _extension(machine: Machine, number: int) -> None:
    # a number that means a class or function only where somebody has registered it
    machine.globals[f"copyreg extension {number}"] = None
    machine._push(Global("copyreg", f"extension {number}"))


def _tuple_of(count: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        values = [machine._pop() for _ in range(count)]
        machine._push(tuple(reversed(values)))

    return step


def _dictionary(machine: Machine) -> None:
    values = machine._marked()
    machine._push({_hashable(key): value for key, value in zip(values[::2], values[1::2], strict=True)})


def _appends(machine: Machine) -> None:
    machine._extend(machine._marked())


def _append(machine: Machine) -> None:
    machine._extend([machine._pop()])


def _set_item(machine: Machine) -> None:
    value, key = machine._pop(), machine._pop()
    machine._set_items([key, value])


_STEPS: dict[bytes, Callable[[Machine], Any]] = {
    b"\x80": lambda m: m.source.read(1),
    b"\x95": Machine._frame,
    b"(": lambda m: m._push(_MARK),
    b"0": lambda m: m._stack.pop(),
    b"1": lambda m: m._marked(),
    b"2": lambda m: m._push(m._stack[-1]),
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
    b"I": lambda m: m._push(_integer(m._line())),
    b"J": lambda m: m._push(_I4(m)),
    b"K": lambda m: m._push(_U1(m)),
    b"M": lambda m: m._push(_U2(m)),
    b"L": lambda m: m._push(int(m._line().rstrip(b"L"))),
    b"\x8a": lambda m: _long(m, _U1(m)),
    b"\x8b": lambda m: _long(m, _I4(m)),
    b"F": lambda m: m._push(float(m._line())),
    b"G": lambda m: m._push(m.source.unpack(">d")),
    b"S": _string,
    b"T": lambda m: m._push(m._old_string(_I4(m))),
    b"U": lambda m: m._push(m._old_string(_U1(m))),
    b"V": lambda m: m._push(m._line().decode("raw-unicode-escape", "surrogatepass")),
    b"X": lambda m: m._push(m._text(_U4(m))),
    b"\x8c": lambda m: m._push(m._text(_U1(m))),
    b"\x8d": lambda m: m._push(m._text(_U8(m))),
    b"B": lambda m: m._push(m._bytes(_U4(m))),
    b"C": lambda m: m._push(m._bytes(_U1(m))),
    b"\x8e": lambda m: m._push(m._bytes(_U8(m))),
    b"\x96": lambda m: m._push(m._bytes(_U8(m))),
    b"\x97": lambda m: m._push(Persistent("buffer")),
    b"\x98": lambda _: None,
    b"]": lambda m: m._push([]),
    b"}": lambda m: m._push({}),
    b")": lambda m: m._push(()),
    b"\x8f": lambda m: m._push(set()),
    b"l": lambda m: m._push(m._marked()),
    b"t": lambda m: m._push(tuple(m._marked())),
    b"\x91": lambda m: m._push(frozenset(map(_hashable, m._marked()))),
    b"d": _dictionary,
    b"\x85": _tuple_of(1),
    b"\x86": _tuple_of(2),
    b"\x87": _tuple_of(3),
    b"a": _append,
    b"e": _appends,
    b"\x90": _appends,
    b"s": _set_item,
    b"u": lambda m: m._set_items(m._marked()),
    b"p": lambda m: m._remember(int(m._line())),
    b"q": lambda m: m._remember(_U1(m)),
    b"r": lambda m: m._remember(_U4(m)),
    b"\x94": lambda m: m._remember(len(m._memo)),
    b"g": lambda m: m._recall(int(m._line())),
    b"h": lambda m: m._recall(_U1(m)),
    b"j": lambda m: m._recall(_U4(m)),
    b"c": lambda m: m._push(m._global(m._line().decode(), m._line().decode())),
    b"\x93": _stack_global,
    b"i": _inst,
    b"o": _obj,
    b"R": _newobj,
    b"\x81": _newobj,
    b"\x92": _newobj_ex,
    b"b": Machine._build,
    b"P": lambda m: m._push(Persistent(m._line().decode())),
    b"Q": lambda m: m._push(Persistent(m._pop())),
    b"\x82": lambda m: _extension(m, _U1(m)),
    b"\x83": lambda m: _extension(m, _U2(m)),
    b"\x84": lambda m: _extension(m, _I4(m)),
}


_WALKED = (list, tuple, dict, set, frozenset, Made, Persistent)


def walk(value: Any, name: str = "", limit: int = MOST_ITEMS) -> Iterator[tuple[str, Any]]:
    """Every object below `value` that is not plain, with a dotted name, each once, parents before what is in them."""
    waiting = [(name, value)]
    seen: set[int] = set()
    while waiting and limit:
        limit -= 1
        at, found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield at, found
        waiting += reversed([(_joined(at, key), inner) for key, inner in parts(found) if isinstance(inner, _WALKED)])


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds, by name."""
    if isinstance(value, Made):
        if isinstance(value.state, tuple) and len(value.state) == 2 and isinstance(value.state[1], dict):
            yield from parts(value.state[0])
            yield from parts(value.state[1])
        else:
            yield from parts(value.state)
        for key, inner in value.items:
            yield _key(key), inner
        for number, inner in enumerate(value.appended):
            yield str(number), inner
        for number, inner in enumerate(value.arguments if isinstance(value.arguments, tuple) else ()):
            yield f"({number})", inner
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield _key(key), inner
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield str(number), inner


def _key(key: Any) -> str:
    if isinstance(key, _Key):
        key = key.value
    if isinstance(key, Bytes):
        return (key.data or b"...").decode("latin-1")
    if isinstance(key, tuple):
        return f"({', '.join(map(brief, key))})" if len(key) <= 8 else brief(key)
    return str(key) if isinstance(key, Global) else brief(key)


def _joined(prefix: str, name: str) -> str:
    if len(prefix) > _LONGEST_NAME:
        return prefix  # else names of what is nested deep grow with the square of the depth
    return f"{prefix}.{name}" if prefix else name
