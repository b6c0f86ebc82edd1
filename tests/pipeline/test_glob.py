from collections.abc import Callable

import pytest

from gitml.errors import UserError
from gitml.oid import Oid
from gitml.pipeline.glob import compile_glob, expand
from gitml.store.odb import Kind, MemoryOdb
from gitml.store.tree import MODE_GITLINK, Entry, Snapshot

MakeTree = Callable[..., Snapshot]


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("/*", b"a", True),
        ("/*", b"a/b", False),
        ("/*/*", b"a/b", True),
        ("/*/*", b"a", False),
        ("/**", b"a/b/c", True),
        ("/**.csv", b"a/b.csv", True),
        ("/**.csv", b"a/b.txt", False),
        ("/a?c", b"abc", True),
        ("/a?c", b"a/c", False),
        ("/a?c", "aäc".encode(), True),
        ("/?", b"\xff", True),
        ("/*", b"\xff\xfe", True),
        ("/[a-c]", b"b", True),
        ("/[a-c]", b"d", False),
        ("/[!a-c]", b"d", True),
        ("/[^a-c]", b"a", False),
        ("/a[!b]c", b"a/c", False),
        ("/[]x]", b"]", True),
        ("/[[:digit:]_]*", b"7up", True),
        ("/[[:^digit:]]", b"7", False),
        ("/[[:^digit:]]", b"x", True),
        ("/{a,b}*", b"b1", True),
        ("/{a,b}*", b"c1", False),
        ("/{a/b,c}/d", b"a/b/d", True),
        ("/{a,{b,c}}", b"c", True),
        ("/\\*", b"*", True),
        ("/\\*", b"a", False),
        ("/(a|b).txt", b"b.txt", True),
        ("/@(a|b)", b"c", False),
        ("/*(ab)", b"ababab", True),
        ("/*(ab)", b"aba", False),
        ("/+(ab)x", b"x", False),
        ("/?(ab)x", b"x", True),
        ("/?(ab)x", b"ababx", False),
        ("/!(a|b)", b"c", True),
        ("/!(a|b)", b"a", False),
        ("/!(a|b)", b"ab", True),
        ("/!(a)*", b"ab", False),  # as Pachyderm: text behind a negation makes it refuse beginnings
        ("/!(!(a))", b"a", True),
        ("/*.!(js)", b"x.py", True),
        ("/*.!(js)", b"x.js", False),
        ("/file-?.(11*)", b"file-0.1100", True),
        ("/a+b,c|d", b"a+b,c|d", True),
        ("/a.b", b"axb", False),
        ("/a\nb", b"a\nb", True),
        ("/*", b"a\nb", True),
        ("x*", b"xy", True),
        ("/", b"", True),
        ("/*", b"", False),
        ("/**", b"", False),
    ],
)
def test_what_a_glob_matches(glob: str, path: bytes, expected: bool) -> None:
    assert compile_glob(glob).matches(path) is expected


@pytest.mark.parametrize(
    ("glob", "problem"),
    [
        ("/{a,b", "has no closing '}'"),
        ("/(a|b", "has no closing ')'"),
        ("/[a", "has no closing ']'"),
        ("/[z-a]", "empty range 'z-a'"),
        ("/[[:nope:]]", "unknown class"),
        ("/a\\", "ends in a backslash"),
        ("/" + "(" * 100 + ")" * 100, "nests too deeply"),
    ],
)
def test_a_malformed_glob_is_the_users_error(glob: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        compile_glob(glob)
    assert problem in caught.value.message


FILES = {
    "in/a.txt": "1",
    "in/a/x.csv": "2",
    "in/a/deep/y.csv": "3",
    "in/b": "4",
    "in/z/w.csv": "5",
    "other": "6",
}


@pytest.mark.parametrize(
    ("glob", "paths"),
    [
        ("/", [b""]),
        ("/*", [b"a.txt", b"a", b"b", b"z"]),
        ("/*/*", [b"a/deep", b"a/x.csv", b"z/w.csv"]),
        ("/**", [b"a.txt", b"a", b"a/deep", b"a/deep/y.csv", b"a/x.csv", b"b", b"z", b"z/w.csv"]),
        ("/**.csv", [b"a/deep/y.csv", b"a/x.csv", b"z/w.csv"]),
        ("/a/x.csv", [b"a/x.csv"]),
        ("/nothing", []),
    ],
)
def test_expansion_in_path_order(tree: MakeTree, glob: str, paths: list[bytes]) -> None:
    snapshot = tree(FILES)
    found = expand(snapshot, b"in", glob)
    assert [path for path, _ in found] == paths
    assert all(entry == snapshot.get(b"in/" + path if path else b"in") for path, entry in found)


def test_a_missing_or_empty_root_has_nothing(tree: MakeTree) -> None:
    assert expand(tree(FILES), b"nowhere", "/") == []
    assert expand(tree({}), b"", "/") == []


def test_the_repository_itself_can_be_the_root(tree: MakeTree) -> None:
    assert [path for path, _ in expand(tree(FILES), b"", "/*")] == [b"in", b"other"]


@pytest.mark.parametrize(("glob", "picked"), [("/", True), ("/*", True), ("/o*r", True), ("/*.csv", False)])
def test_a_file_as_root_stands_for_a_directory_that_holds_it(tree: MakeTree, glob: str, picked: bool) -> None:
    snapshot = tree(FILES)
    assert expand(snapshot, b"other", glob) == ([(b"", snapshot.get(b"other"))] if picked else [])


def test_links_are_files_and_submodules_are_skipped(tree: MakeTree) -> None:
    snapshot = tree({"in/link@": "target", "in/sub": Entry(MODE_GITLINK, Oid(b"\1" * 20)), "in/f": "x"})
    assert [path for path, _ in expand(snapshot, b"in", "/**")] == [b"f", b"link"]
    assert expand(snapshot, b"in/sub", "/") == []


class CountingOdb(MemoryOdb):
    """Remembers which trees were read."""

    def __init__(self) -> None:
        super().__init__()
        self.trees: list[Oid] = []

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        kind, data = super().read(oid)
        if kind == "tree":
            self.trees.append(oid)
        return kind, data


@pytest.fixture
def odb() -> CountingOdb:
    return CountingOdb()


@pytest.mark.parametrize(
    ("glob", "read"),
    [
        ("/", []),
        ("/*", [b"in"]),
        ("/*/*", [b"in", b"in/a", b"in/z"]),
        ("/z/*", [b"in", b"in/z"]),
        ("/{a/deep,b}/*", [b"in", b"in/a", b"in/a/deep"]),
        ("/z**", [b"in", b"in/z"]),
        ("/!(a)/*", [b"in", b"in/z"]),
        ("/+(a/)deep/*", [b"in", b"in/a", b"in/a/deep"]),
        ("/**", [b"in", b"in/a", b"in/a/deep", b"in/z"]),
    ],
)
def test_only_trees_that_could_match_are_read(odb: CountingOdb, tree: MakeTree, glob: str, read: list[bytes]) -> None:
    made = tree(FILES)
    expected = {made.oid_at(path) for path in read}
    snapshot = Snapshot(odb, made.root)
    snapshot.get(b"in")
    odb.trees.clear()
    expand(snapshot, b"in", glob)
    assert set(odb.trees) == expected
