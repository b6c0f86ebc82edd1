"""The glob dialect of Pachyderm specifications, and the entries of a tree that a glob picks.

| written | matches |
|---|---|
| `*` | any run of characters but `/` |
| `**` | any run of characters |
| `?` | one character but `/` |
| `[a-z]` `[!a]` `[^a]` `[[:digit:]]` | one character of a class, never `/` |
| `{a,b}` | one of the alternatives |
| `(a|b)` `@(a|b)` | one of the alternatives, captured |
| `?(…)` `*(…)` `+(…)` | none or one, any number, at least one of the alternatives, captured |
| `!(a|b)` | a run without `/` that is none of the alternatives, captured |
| `\\x` | the character x itself |

A `!(…)` with more text or a star behind it also refuses runs that only *begin* with an alternative, as
Pachyderm's matcher does (github.com/pachyderm/ohmyglob, `compiler/compiler.go`).

Matching is on the path below the input's root with a leading `/` and no trailing one. The root itself is
matched by the glob `/` alone. Paths are any bytes; a byte that is not UTF-8 counts as one character.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NoReturn

from gitml.errors import UserError
from gitml.oid import Oid
from gitml.provenance.codec import printable, text_of
from gitml.record import record
from gitml.store.tree import MODE_GITLINK, Entry, Snapshot, empty_tree

_DEEPEST = 32
"""Nesting of groups and braces that is still read; nobody writes more, and `re` has limits of its own."""

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r"\t ",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "punct": r"!-\.:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}


@record
class _Text:
    text: str


@record
class _One:
    """One character, as a regular expression."""

    pattern: str


@record
class _Star:
    crosses: bool
    """Whether it matches slashes."""


@record
class _Group:
    quantifier: str
    """'' once, '?', '*', '+', or '!' for none of the alternatives."""
    captures: bool
    alternatives: tuple[tuple["_Node", ...], ...]


_Node = _Text | _One | _Star | _Group
_Nodes = tuple[_Node, ...]


class _Parser:
    def __init__(self, glob: str) -> None:
        self.glob = glob
        self.at = 0
        self.depth = 0

    def fail(self, problem: str) -> NoReturn:
        raise UserError(
            f"glob '{printable(self.glob)}' {problem}",
            hint="put a backslash before a character that is meant as itself",
        )

    def peek(self, ahead: int = 0) -> str:
        return self.glob[self.at + ahead : self.at + ahead + 1]

    def sequence(self, ends: str) -> _Nodes:
        nodes: list[_Node] = []
        while self.at < len(self.glob) and self.peek() not in ends:
            node = self.node()
            if isinstance(node, _Text) and nodes and isinstance(nodes[-1], _Text):
                nodes[-1] = _Text(nodes[-1].text + node.text)
            else:
                nodes.append(node)
        return tuple(nodes)

    def node(self) -> _Node:
        char = self.peek()
        following = self.peek(1)
        if char == "(":
            return self.group("", "|", ")")
        if following == "(" and char in "@?*+!":
            self.at += 1
            return self.group("" if char == "@" else char, "|", ")")
        if char == "{":
            return self.group("", ",", "}")
        self.at += 1
        if char == "*":
            # the last star before a parenthesis is the quantifier of that group
            if following == "*" and self.peek(1) != "(":
                self.at += 1
                return _Star(crosses=True)
            return _Star(crosses=False)
        if char == "?":
            return _One("[^/]")
        if char == "[":
            return self.characters()
        if char == "\\":
            if not following:
                self.fail("ends in a backslash")
            self.at += 1
            return _Text(following)
        return _Text(char)

    def group(self, quantifier: str, between: str, end: str) -> _Group:
        self.depth += 1
        if self.depth > _DEEPEST:
            self.fail("nests too deeply")
        alternatives: list[_Nodes] = []
        while True:
            self.at += 1  # the opening character, or the one between alternatives
            alternatives.append(self.sequence(between + end))
            if not self.peek():
                self.fail(f"has no closing '{end}'")
            if self.peek() == end:
                break
        self.at += 1
        self.depth -= 1
        return _Group(quantifier, end == ")", tuple(alternatives))

    def characters(self) -> _One:
        negated = self.peek() in ("!", "^")
        self.at += negated
        parts: list[str] = []
        while self.peek() != "]" or not parts:
            if not self.peek():
                self.fail("has no closing ']'")
            if self.glob.startswith("[:", self.at):
                parts.append(self.named_class())
                continue
            low = self.member()
            if self.peek() == "-" and self.peek(1) not in ("", "]"):
                self.at += 1
                high = self.member()
                if high < low:
                    self.fail(f"has the empty range '{low}-{high}'")
                parts.append(f"{re.escape(low)}-{re.escape(high)}")
            else:
                parts.append(re.escape(low))
        self.at += 1
        either = "|".join(f"[{part}]" for part in parts)
        return _One(f"(?!{either})[^/]" if negated else f"(?!/)(?:{either})")

    def member(self) -> str:
        if self.peek() == "\\":
            self.at += 1
        char = self.peek()
        if not char:
            self.fail("has no closing ']'")
        self.at += 1
        return char

    def named_class(self) -> str:
        end = self.glob.find(":]", self.at)
        name = self.glob[self.at + 2 : end] if end >= 0 else ""
        bare = name.removeprefix("^")
        if bare not in _CLASSES:
            self.fail(f"has the unknown class '[:{printable(name)}:]'")
        self.at = end + 2
        return name[: len(name) - len(bare)] + _CLASSES[bare]


def _has_text(nodes: _Nodes) -> bool:
    return any(
        isinstance(node, _Text | _Star) or (isinstance(node, _Group) and any(map(_has_text, node.alternatives)))
        for node in nodes
    )


def _pattern(nodes: _Nodes, followed: bool) -> str:
    """A regular expression for `nodes`; `followed` says whether text or a star comes later in the glob."""
    parts: list[str] = []
    for node in reversed(nodes):
        match node:
            case _Text(text):
                parts.append(re.escape(text))
            case _One(pattern):
                parts.append(pattern)
            case _Star(crosses):
                parts.append(".*" if crosses else "[^/]*")
            case _Group(quantifier, captures, alternatives):
                either = "|".join(_pattern(alternative, followed) for alternative in alternatives)
                if quantifier == "!":
                    end = "" if followed else r"\Z"
                    inner = f"(?!(?:{either}){end})[^/]*"
                else:
                    inner = f"(?:{either}){quantifier}"
                parts.append(f"({inner})" if captures else inner)
        followed = followed or _has_text((node,))
    return "".join(reversed(parts))


def _cuts(nodes: _Nodes) -> Iterator[str]:
    """Regular expressions that together match what a match of `nodes` can begin with, ending after a slash."""
    before = ""
    for at, node in enumerate(nodes):
        match node:
            case _Text(text):
                for found in re.finditer("/", text):
                    yield before + re.escape(text[: found.end()])
            case _Star(crosses=True):
                yield before + ".*"
            case _Group(quantifier, _, alternatives) if quantifier != "!":
                repeated = _pattern((_Group("*", False, alternatives),), True) if quantifier in ("*", "+") else ""
                for alternative in alternatives:
                    for cut in _cuts(alternative):
                        yield before + repeated + cut
            case _:
                pass  # matches no slash
        before += _pattern((node,), _has_text(nodes[at + 1 :]))


class Glob:
    """A compiled glob. `text` is what was written."""

    __slots__ = ("_descends", "_matches", "text")

    _REFERENCE = re.compile(r"\$(?:\$|([0-9]+)|\{([0-9]+)\})")

    def __init__(self, text: str) -> None:
        parser = _Parser(text if text.startswith("/") else "/" + text)
        nodes = parser.sequence("")
        self.text = text
        try:
            self._matches = re.compile(_pattern(nodes, False), re.DOTALL)
            self._descends = re.compile("|".join(dict.fromkeys(_cuts(nodes))), re.DOTALL)
        except (re.error, OverflowError, RecursionError):
            parser.fail("is too complicated")

    @property
    def is_root(self) -> bool:
        """Whether the whole input is one datum."""
        return self.text in ("", "/")

    def matches(self, path: bytes) -> bool:
        """Whether the glob picks `path`, a path below the root of the input (`b""` is the root)."""
        if not path:
            return self.is_root
        return self._matches.fullmatch("/" + text_of(path)) is not None

    def references(self, template: str) -> list[int]:
        """The numbers of the capturing groups that `template` names; raise `UserError` if the glob lacks one."""
        numbers = [int(found[1] or found[2]) for found in self._REFERENCE.finditer(template) if found[0] != "$$"]
        has = self._matches.groups
        for number in numbers:
            if number > has:
                raise UserError(
                    f"'{printable(template)}' names the capturing group {number}, and "
                    f"the glob '{printable(self.text)}' has {has or 'none'}",
                    hint="put parentheses around what it stands for, as in '/(*).csv'",
                )
        return numbers

    def replace(self, path: bytes, template: str) -> str:
        """`template` with `$1` or `${1}` as what the first capturing group matches in `path`, and `$$` as `$`.

        `$0` is the whole path with a leading slash; a group that took no part in the match is empty. Raise
        `ValueError` if the glob does not match. As Pachyderm's matcher replaces, by the rules of .NET.
        """
        match = self._matches.fullmatch("/" + text_of(path))
        if match is None:
            raise ValueError(f"glob '{self.text}' does not match")

        def value(found: re.Match[str]) -> str:
            return "$" if found[0] == "$$" else match[int(found[1] or found[2])] or ""

        # pieces of a character of several bytes may meet again here: one text for the same bytes
        return text_of(self._REFERENCE.sub(value, template).encode("utf-8", "surrogateescape"))

    def descends(self, path: bytes) -> bool:
        """Whether something below the directory `path` could match."""
        if self.is_root:
            return False
        return self._descends.fullmatch("/" + text_of(path) + "/" if path else "/") is not None


@lru_cache(maxsize=256)
def compile_glob(text: str) -> Glob:
    """The glob written as `text`; raise `UserError` if it is malformed."""
    return Glob(text)


def expand(snapshot: Snapshot, root: bytes, glob: str) -> list[tuple[bytes, Entry]]:
    """The entries below the input root that `glob` picks, as (path below the root, entry).

    In bytewise path order, a directory's name ending in a slash for that purpose, so it stands right before
    what is below it: the order of git and of Pachyderm. Directories are entries like files, symbolic links
    count as files, submodules are skipped. Only trees that could hold a match are read. A root that is not
    there has no entries. Raise `UserError` for a malformed glob.
    """
    entry = snapshot.get(root)
    return [] if entry is None else expand_entry(snapshot, root, entry, glob)


def expand_entry(snapshot: Snapshot, root: bytes, entry: Entry, glob: str) -> list[tuple[bytes, Entry]]:
    """As `expand`, for a root known by its entry, which need not be part of the snapshot's own tree.

    A root that is a file behaves as a directory that holds just this file under its own name: `/` and `/*`
    give the file itself, `/*.csv` gives it if it is so called. Its path below the root is empty.
    """
    compiled = compile_glob(glob)
    if entry.mode == MODE_GITLINK:
        return []
    if not entry.is_tree:
        return [(b"", entry)] if compiled.is_root or compiled.matches(root.rpartition(b"/")[2]) else []
    if compiled.is_root:
        return [] if entry.oid == empty_tree(snapshot.odb.format) else [(b"", entry)]
    return list(_expand(snapshot, entry.oid, b"", compiled))


def _expand(snapshot: Snapshot, tree: Oid, at: bytes, glob: Glob) -> Iterator[tuple[bytes, Entry]]:
    for name, entry in snapshot.entries(tree).items():
        if entry.mode == MODE_GITLINK:
            continue
        path = at + name
        if glob.matches(path):
            yield path, entry
        if entry.is_tree and glob.descends(path):
            yield from _expand(snapshot, entry.oid, path + b"/", glob)
