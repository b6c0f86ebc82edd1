"""Layers become a directory, and nothing of them goes anywhere else."""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from gitml.pipeline.unpack import ImageError, LinkError, Unpacking, inside
from tests.images import Member, layer


def unpack(top: Path, *layers: list[Member], limit: int = 1 << 20) -> Path:
    growing = Unpacking(top / "root", limit)
    for members in layers:
        growing.apply(io.BytesIO(layer(*members)))
    return top / "root"


def listing(root: Path) -> dict[str, str]:
    """What is below a directory: text of files, `->` of links, empty for directories without content."""
    found = {}
    for top, directories, names in os.walk(root):
        for name in [*directories, *names]:
            path = Path(top, name)
            at = path.relative_to(root).as_posix()
            if path.is_symlink():
                found[at] = f"->{path.readlink()}"
            elif path.is_file():
                found[at] = path.read_text()
            elif not any(path.iterdir()):
                found[at] = ""
    return found


def test_layers_lie_above_each_other(tmp_path: Path) -> None:
    root = unpack(
        tmp_path,
        [("./", ""), ("usr/bin/", ""), ("usr/bin/a", "1", 0o755), ("bin", "->usr/bin"), ("etc/x", "1"), ("etc/y", "1")],
        [("bin/b", "2"), ("etc/x", "2"), ("usr/bin/c", "=>usr/bin/a"), ("d/", "", 0o555), ("d/e", "3")],
    )
    assert listing(root) == {
        "bin": "->usr/bin", "usr/bin/a": "1", "usr/bin/b": "2", "usr/bin/c": "1",
        "etc/x": "2", "etc/y": "1", "d/e": "3",
    }  # fmt: skip
    assert (root / "usr/bin/a").stat().st_ino == (root / "usr/bin/c").stat().st_ino
    assert (root / "usr/bin/a").stat().st_mtime == 1_600_000_000
    assert (root / "usr/bin/a").stat().st_mode & 0o777 == 0o755


def test_what_replaces_what(tmp_path: Path) -> None:
    root = unpack(
        tmp_path,
        [("a/b", "1"), ("c", "1"), ("d", "->a"), ("e", "->a"), ("f", "1"), ("g", "=>f")],
        [("a", "file"), ("c/", ""), ("d/", ""), ("d/x", "2"), ("e", "file"), ("g", "2")],
    )
    # a link that a directory replaces is no longer followed, and writing to one name of two leaves the other
    assert listing(root) == {"a": "file", "c": "", "d/x": "2", "e": "file", "f": "1", "g": "2"}


def test_whiteouts_hide_lower_layers_only(tmp_path: Path) -> None:
    root = unpack(
        tmp_path,
        [("a/old", "1"), ("a/more/old", "1"), ("b/old", "1"), ("c", "1"), ("e/old", "1"), (".wh..wh.aufs", "")],
        # before and after: the place of a whiteout among the members means nothing
        [("a/new", "2"), ("a/.wh..wh..opq", ""), ("a/more/new", "2"), (".wh.b", ""), (".wh.c", ""), ("c", "2")],
        [("e/new", "3"), (".wh.e", ""), (".wh.none", "")],
    )
    assert listing(root) == {"a/new": "2", "a/more/new": "2", "c": "2", "e/new": "3"}


def test_rights_that_tasks_must_not_have(tmp_path: Path) -> None:
    root = unpack(
        tmp_path,
        [
            ("su", "1", 0o4755),
            ("sg", "1", 0o2755),
            ("closed", "1", 0o000),
            ("dir/", "", 0o1000),
            ("null", 3),
            ("pipe", 6),
        ],
        [("dir/in", "2")],
    )
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in root.iterdir()}
    assert modes == {"su": 0o755, "sg": 0o755, "closed": 0o400, "dir": 0o700}


@pytest.mark.parametrize(
    "members",
    [
        [("../out", "x")],
        [("a/../../out", "x")],
        [("a/.wh...", "")],
        [("etc/passwd", "x"), ("l", "=>../../etc/passwd")],
        [("l", "=>etc/none")],
        [("l", "=>/")],
        [("a", "x"), ("a/b", "x")],
    ],
)
def test_what_leaves_the_image_is_refused(tmp_path: Path, members: list[Member]) -> None:
    with pytest.raises(ImageError):
        unpack(tmp_path, members)
    assert os.listdir(tmp_path) == ["root"]


def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("1")
    root = unpack(
        tmp_path,
        [("abs", f"->{outside}"), ("up", "->../../../../outside"), ("file", f"->{outside}/kept"), ("here/x", "1")],
        [("abs/a", "2"), ("up/b", "2"), ("file", "2")],
        [("abs/.wh.kept", ""), ("abs/.wh..wh..opq", "")],
    )
    assert listing(outside) == {"kept": "1"}
    assert listing(root)["file"] == "2"
    assert (root / "outside/b").read_text() == "2"  # as a process would see it whose root directory that is
    (tmp_path / "again").mkdir()
    with pytest.raises(ImageError, match="is no file"):
        unpack(tmp_path / "again", [("hard", f"=>{outside}/kept")])


def test_limits(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"more than 0\.0 GB") as caught:
        unpack(tmp_path, [("a", "12345"), ("b", "123456")], limit=10)
    assert "ml.imageLimit" in str(caught.value.hint)
    assert listing(tmp_path / "root") == {"a": "12345"}


def test_damaged_and_hostile_headers(tmp_path: Path) -> None:
    whole = layer(("a", "1" * 2000))
    with pytest.raises(ImageError, match="damaged"):
        Unpacking(tmp_path / "root", 1 << 20).apply(io.BytesIO(whole[:1500]))
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    with pytest.raises(ImageError, match="too long"):
        Unpacking(tmp_path / "other", 1 << 20).apply(io.BytesIO(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))


def test_paths_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    for name, target in {"bin": "usr/bin", "abs": "/usr", "up": "../../usr", "a": "b", "b": "a", "f": "/bin/x"}.items():
        (root / name).symlink_to(target)
    assert inside(root, "/bin/x") == "usr/bin/x"
    assert inside(root, "abs/bin/../y") == "usr/y"
    (root / "usr/top").symlink_to("/abs")
    assert inside(root, "usr/top/bin") == "usr/bin"
    assert inside(root, "up/bin/none/deep") == "usr/bin/none/deep"
    assert inside(root, "../../f") == "usr/bin/x"
    assert inside(root, "f", last=False) == "f"
    assert inside(root, "/") == ""
    with pytest.raises(LinkError):
        inside(root, "a/x")
