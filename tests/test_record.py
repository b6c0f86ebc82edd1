"""What gitml relies on in records; it is what data classes do."""

import ast
import copy
import dataclasses
import pickle
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import pytest

import gitml
import gitml.record as module
from gitml.record import asdict, field, names, record, replace

_T = TypeVar("_T")


@record
class Point:
    """A place."""

    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list)
    LIMIT: ClassVar[int] = 7
    plain = 8

    @property
    def total(self) -> int:
        return self.x + self.y


@record(kw_only=True)
class Named:
    a: int = 1
    b: str


@record(frozen=False)
class Counter:
    count: int = 0
    seen: dict[str, int] = field(default_factory=dict)


@record(frozen=False)
class Longer(Counter):
    limit: int = 5


@record
class Secret:
    name: str
    value: str = field(default="", repr=False)
    place: int | None = field(default=None, compare=False)


@record
class Nothing:
    pass


@record
class Single:
    value: object


@record(eq=False)
class Node:
    children: tuple["Node", ...] = ()


@record(slots=False)
class Opened:
    path: str
    mode: str = "r"

    @cached_property
    def length(self) -> int:
        return len(self.path)


@record
class Box(Generic[_T]):
    content: _T


@record(frozen=False)
class Range:
    low: int
    high: int

    def __post_init__(self) -> None:
        self.low, self.high = min(self.low, self.high), max(self.low, self.high)


def test_an_instance_has_its_fields_and_nothing_else() -> None:
    point = Point(1)
    assert (point.x, point.y, point.tags, point.total, Point.LIMIT, point.plain) == (1, 2, [], 3, 7, 8)
    assert Point(1, 3, ["a"]) == Point(x=1, tags=["a"], y=3)
    assert Point(1).tags is not point.tags
    assert not hasattr(point, "__dict__")
    assert names(point) == ("x", "y", "tags")


def test_the_class_is_what_it_was() -> None:
    assert (Point.__doc__, Point.__name__, Point.__qualname__) == ("A place.", "Point", "Point")
    assert Point.__module__ == __name__

    @record
    class Local:
        pass

    assert Local.__qualname__ == "test_the_class_is_what_it_was.<locals>.Local"
    assert repr(Local()) == f"{Local.__qualname__}()"


@pytest.mark.parametrize("kind", [Point, Opened, Single])
def test_a_frozen_record_stays_as_it_is(kind: Callable[..., Any]) -> None:
    item = kind(1)
    name = names(item)[0]
    with pytest.raises(AttributeError, match="is frozen"):
        setattr(item, name, 2)
    with pytest.raises(AttributeError, match="is frozen"):
        delattr(item, name)
    with pytest.raises(AttributeError, match="is frozen"):
        item.new = 2
    assert getattr(item, name) == 1


def test_a_record_that_is_not_frozen_changes() -> None:
    counter = Counter()
    counter.count += 1
    assert counter == Counter(1)
    with pytest.raises(AttributeError):
        counter.new = 1  # type: ignore[attr-defined]  # what slots refuse
    with pytest.raises(TypeError, match="unhashable"):
        hash(counter)


@pytest.mark.parametrize(
    ("arguments", "named", "message"),
    [
        ((), {}, r"Point.__init__\(\) missing 1 required positional argument: 'x'"),
        ((1, 2, [], 4), {}, r"Point.__init__\(\) takes from 2 to 4 positional arguments but 5 were given"),
        ((1,), {"z": 1}, r"Point.__init__\(\) got an unexpected keyword argument 'z'"),
        ((1,), {"x": 1}, r"Point.__init__\(\) got multiple values for argument 'x'"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[Any, ...], named: dict[str, Any], message: str) -> None:
    make: Any = Point
    for _ in range(2):  # of a class that has made its constructor, and of one that has not
        with pytest.raises(TypeError, match=message):
            make(*arguments, **named)


def test_fields_that_are_only_named_may_stand_in_any_order() -> None:
    assert (Named(b="x").a, Named(b="x", a=3).a) == (1, 3)
    make: Any = Named
    with pytest.raises(TypeError, match="takes 1 positional argument but 2"):
        make(1, b="x")
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'b'"):
        make()
    assert Named.__match_args__ == ()


def test_records_inherit_fields() -> None:
    longer = Longer(1, {}, 3)
    assert (longer.count, longer.limit, names(longer)) == (1, 3, ("count", "seen", "limit"))
    assert isinstance(longer, Counter)
    assert not hasattr(longer, "__dict__")
    assert Longer.__dict__["__slots__"] == ("limit",)
    assert longer != Counter(1, {})

    class Told(Longer):
        def __init__(self, word: str) -> None:
            super().__init__(len(word))
            self.word = word

    for _ in range(2):
        assert (Told("abc").count, Told("abc").word) == (3, "abc")
    assert asdict(Told("abc")) == {"count": 3, "seen": {}, "limit": 5}

    @record(frozen=False)
    class Shadowing(Counter):
        count: int = 9

    assert (Shadowing().count, names(Shadowing())) == (9, ("count", "seen"))
    assert Counter().count == 0


def test_equal_means_equal_fields_of_the_same_class() -> None:
    @dataclasses.dataclass(frozen=True)
    class Other:
        value: object  # what a data class answers is asked as well

    not_equal_to_itself = float("nan")
    kinds: list[Any] = [Single, Other]
    for kind in kinds:
        assert kind(1) == kind(1)
        assert kind(1) != kind(2)
        assert kind(1) != 1
        assert kind(not_equal_to_itself) == kind(not_equal_to_itself)
        assert len({kind(1), kind(1), kind(2)}) == 2
        with pytest.raises(TypeError, match="unhashable type: 'list'"):
            hash(kind([]))
    assert kinds[0](1) != kinds[1](1)
    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())
    assert Node() != Node()
    assert len({Node(), Node()}) == 2


def test_what_is_left_out_is_neither_shown_nor_compared() -> None:
    secret = Secret("key", "hush", 1)
    assert repr(secret) == "Secret(name='key', place=1)"
    assert secret == Secret("key", "hush", 2)
    assert hash(secret) == hash(Secret("key", "hush", 2))
    assert secret != Secret("key", "other", 1)


def test_what_a_class_defines_itself_stays() -> None:
    @record
    class Own:
        text: str

        def __repr__(self) -> str:
            return self.text

        def __eq__(self, other: object) -> bool:
            return isinstance(other, str) and other == self.text

        def __hash__(self) -> int:
            return 3

    assert repr(Own("a")) == "a"
    assert Own("a") == "a"
    assert hash(Own("a")) == 3

    @record(frozen=False)
    class Made:
        text: str

        def __init__(self) -> None:
            self.text = "made"

    assert Made().text == "made"


def test_after_the_fields_are_set() -> None:
    assert Range(3, 1) == Range(1, 3)
    assert replace(Range(1, 3), low=5) == Range(3, 5)


def test_what_is_computed_once_is_kept_without_slots() -> None:
    opened = Opened("abc")
    assert (opened.length, opened.mode) == (3, "r")
    assert opened.__dict__["length"] == 3
    assert opened == Opened("abc")
    assert not hasattr(Opened, "path")


def test_a_default_that_could_change_is_refused() -> None:
    with pytest.raises(TypeError, match="default of 'items'"):

        @record
        class Shared:
            items: list[int] = []  # noqa: RUF012 - what is refused


@pytest.mark.parametrize("item", [Point(1, 2, ["a"]), Longer(1, {"a": 2}), Opened("p"), Single(Point(1)), Box("c")])
def test_records_travel(item: object) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(item, protocol)) == item
    assert copy.copy(item) == item
    copied = copy.deepcopy(item)
    assert copied == item
    assert copied is not item


def test_pickles_are_those_of_data_classes() -> None:
    state: Any = Point(1, 2, ["a"]).__reduce_ex__(2)[2]
    assert state == [1, 2, ["a"]]
    assert Counter(1).__reduce_ex__(2)[2] == (None, {"count": 1, "seen": {}})


def test_replacing_keeps_the_rest() -> None:
    point = Point(1, 2, ["a"])
    assert replace(point, y=5) == Point(1, 5, ["a"])
    assert replace(point).tags is point.tags
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        replace(point, z=1)  # type: ignore[call-arg]  # what is refused


def test_records_as_dicts() -> None:
    @record
    class Outer:
        points: tuple[Point, ...]
        by_name: dict[str, list[Point]]
        text: str

    inner = {"x": 1, "y": 2, "tags": ["a"]}
    outer = Outer((Point(1, 2, ["a"]),), {"p": [Point(1, 2, ["a"])]}, "t")
    assert asdict(outer) == {"points": (inner,), "by_name": {"p": [inner]}, "text": "t"}
    assert asdict(outer)["points"][0]["tags"] is not outer.points[0].tags


def test_any_word_may_be_the_name_of_a_field() -> None:
    @record(slots=False)
    class Words:
        set: int
        hash: int = 1
        absent: int = 2
        other: list[int] = field(default_factory=list)

    assert asdict(Words(0)) == {"set": 0, "hash": 1, "absent": 2, "other": []}
    assert Words(0) == Words(0)


def test_records_match_by_position() -> None:
    match Point(1, 5):
        case Point(x, y):
            assert (x, y) == (1, 5)
    assert Point.__match_args__ == ("x", "y", "tags")


def test_records_of_something() -> None:
    box: Box[int] = Box[int](3)
    assert box == Box(3)

    class Sized(Protocol):
        size: int

    @record
    class File(Sized):
        size: int

    assert File(3).size == 3


def test_threads_may_make_the_first_instance_together(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=60)
    write = module._constructor
    written = []

    def together(*arguments: Any) -> Any:
        both.wait()  # each has found the class without its constructor
        written.append(arguments[0])
        return write(*arguments)

    monkeypatch.setattr(module, "_constructor", together)

    @record
    class Raced:
        x: int

    made: list[Raced] = []
    threads = [threading.Thread(target=lambda: made.append(Raced(3))) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert made == [Raced(3), Raced(3)]
    assert written == [Raced, Raced]


def test_methods_are_written_once_and_only_if_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    write = module._compiled

    def noted(cls: Any, name: str, *arguments: Any) -> Any:
        written.append(name)
        return write(cls, name, *arguments)

    monkeypatch.setattr(module, "_compiled", noted)

    @record
    class Late:
        x: int

    class Later(Late):
        pass

    assert written == []
    assert [Later(1).x, Late(2).x, Late(3).x] == [1, 2, 3]
    assert written == ["__init__"]
    assert Late(1) == Late(1) != Later(1) == Later(1)
    assert hash(Late(1)) == hash(Later(1)) == hash(Late(1))
    assert written == ["__init__", "__eq__", "__hash__"]


def test_no_module_of_gitml_has_data_classes() -> None:
    root = Path(gitml.__file__).parent
    modules = list(root.rglob("*.py"))
    assert len(modules) > 100
    using = set()
    for path in modules:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                imported = {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported = {str(node.module)}
            else:
                continue
            if imported & {"dataclasses", "inspect"}:
                using.add(path.relative_to(root))
    assert using == {Path("record.py")}  # for mypy alone: tests/test_startup.py
