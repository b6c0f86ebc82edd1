"""Lines of `.gitattributes`: what is added, exchanged and taken away, and that it comes back."""

import pytest

from gitml.migrate.attributes import (
    LFS,
    ML,
    AttributeChange,
    exact_pattern,
    gitml_to_lfs,
    lfs_to_gitml,
    line,
    unchanged,
    with_lines,
    without_gitml,
)

ADDED = (line("*.bin", ML), line("my data/**", ML))


@pytest.mark.parametrize(
    "text", [None, b"*.c text\n", b"*.c text", b"*.c text\r\n*.h text\r\n", b"# note\n\n*.c -text\n"]
)
def test_added_lines_go_away_without_a_trace(text: bytes | None) -> None:
    new = with_lines(text, ADDED)
    assert all(each in new for each in ADDED)
    assert (without_gitml(new) or None) == text


def test_lines_are_added_once() -> None:
    once = with_lines(b"*.c text\n", ADDED)
    assert with_lines(once, ADDED) == once


def test_line_ends_are_kept() -> None:
    assert with_lines(b"*.c text\r\n", ADDED[:1]) == b"*.c text\r\n*.bin filter=ml -text\r\n"
    assert lfs_to_gitml(b"*.bin " + LFS + b"\r\n") == b"*.bin filter=ml -text\r\n"


@pytest.mark.parametrize(
    ("lfs", "ml"),
    [
        (b"*.bin filter=lfs diff=lfs merge=lfs -text\n", b"*.bin filter=ml -text\n"),
        (b"*.bin lockable filter=lfs diff=lfs merge=lfs -text\n", b"*.bin lockable filter=ml -text\n"),
        (b'"a b.bin" filter=lfs diff=lfs merge=lfs -text', b'"a b.bin" filter=ml -text'),
        (b"[attr]big filter=lfs diff=lfs merge=lfs -text\n*.x big\n", b"[attr]big filter=ml -text\n*.x big\n"),
        (b"# *.bin filter=lfs\n*.c text\n\n", b"# *.bin filter=lfs\n*.c text\n\n"),
        (b"*.bin   -filter\n", b"*.bin   -filter\n"),
    ],
)
def test_git_lfs_and_back(lfs: bytes, ml: bytes) -> None:
    assert lfs_to_gitml(lfs) == ml
    assert gitml_to_lfs(ml) == lfs


def test_text_conversion_is_ruled_out_with_git_lfs_too() -> None:
    assert lfs_to_gitml(b"*.bin filter=lfs\n") == b"*.bin filter=ml -text\n"


def test_other_attributes_stay_when_gitml_goes() -> None:
    assert without_gitml(b"*.bin filter=ml -text lockable\n*.c text\n") == b"*.bin lockable\n*.c text\n"


def test_a_file_that_held_nothing_else_goes_away() -> None:
    change = AttributeChange(without_gitml)
    assert change.changed(b"", b"*.bin filter=ml -text\n") is None
    assert change.changed(b"sub/", b"*.bin filter=ml -text\n") is None


def test_lines_go_to_the_top_level_only() -> None:
    change = AttributeChange(unchanged, ADDED)
    assert change.changed(b"sub/", None) is None
    assert change.changed(b"sub/", b"*.c text\n") == b"*.c text\n"
    assert change.changed(b"", None) == b"".join(each + b"\n" for each in ADDED)


def test_the_pattern_of_one_path_escapes_what_globs_mean() -> None:
    assert exact_pattern(b"a/b[1]*?\\.bin") == "/a/b\\[1]\\*\\?\\\\.bin"
