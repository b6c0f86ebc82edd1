"""From DVC, by layouts that were written by hand from its documented formats."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.migrate.convert import ConversionError
from gitml.migrate.migration import detect
from gitml.migrate.selection import Choice
from gitml.store.pointer import is_pointer
from tests.conftest import run_git
from tests.migrate.histories import Files, History, files_of, noise, run, set_up, status, text

LISTING = {"sub/y.txt": b"hi\n", "x.bin": noise(2)}


class Dvc:
    """A cache, and the files that speak of it."""

    def __init__(self, root: Path, layout: str = "files/md5") -> None:
        self.root = root
        self.layout = layout

    def put(self, content: bytes, suffix: str = "", md5: str = "") -> str:
        digest = md5 or hashlib.md5(content).hexdigest()
        path = self.root / self.layout / digest[:2] / (digest[2:] + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return digest + suffix

    def file(self, name: str, content: bytes, more: str = "  hash: md5\n") -> bytes:
        return f"outs:\n- md5: {self.put(content)}\n  size: {len(content)}\n{more}  path: {name}\n".encode()

    def directory(self, name: str, files: dict[str, bytes]) -> bytes:
        entries = [{"md5": self.put(content), "relpath": path} for path, content in sorted(files.items())]
        md5 = self.put(json.dumps(entries).encode(), ".dir")
        return f"outs:\n- md5: {md5}\n  size: 1\n  nfiles: {len(files)}\n  hash: md5\n  path: {name}\n".encode()


def project(repo: Path, *, layout: str = "files/md5") -> Dvc:
    """Two commits: a file and a directory, then another version of both and a pipeline."""
    dvc = Dvc(repo / ".dvc/cache", layout)
    model = noise(5)
    lock = (
        f"schema: '2.0'\nstages:\n  train:\n    cmd: train\n    outs:\n    - path: m.json\n      hash: md5\n"
        f"      md5: {hashlib.md5(b'1').hexdigest()}\n"
        f"    - path: model.bin\n      hash: md5\n      md5: {dvc.put(model)}\n"
    )
    history = History()
    files: Files = {
        b".dvc/config": b"",
        b".dvc/.gitignore": b"/config.local\n/tmp\n/cache\n",
        b".gitignore": b"/a.bin\n*.tmp\n/d\n/model.bin\n",
        b"data/.gitignore": b"/t.csv\n",
        b"a.bin.dvc": dvc.file("a.bin", noise(1)),
        b"d.dvc": dvc.directory("d", LISTING),
        b"data/t.csv.dvc": dvc.file("t.csv", text(1)),
    }
    first = history.commit("main", b"one", files)
    history.commit(
        "main",
        b"two",
        {
            b"a.bin.dvc": dvc.file("a.bin", noise(3), "  hash: md5\n  isexec: true\n"),
            b"d.dvc": dvc.directory("d", {**LISTING, "z.bin": noise(4)}),
            b"dvc.yaml": b"stages:\n  train:\n    cmd: train\n    outs: [model.bin]\n    metrics: [m.json]\n",
            b"dvc.lock": lock.encode(),
            b"m.json": b"1",
        },
        [first],
    )
    history.write(repo)
    return dvc


@pytest.mark.parametrize("layout", ["files/md5", "."])
def test_history_holds_what_dvc_kept_for_it(repo: Path, layout: str) -> None:
    project(repo, layout=layout)
    here = set_up(repo)
    assert detect(here) == "dvc"
    outcome = run(repo, source="dvc", choice=Choice(("main",)))
    assert outcome.notes == ["'dvc.lock' and its dvc.yaml stay: stages come with git ml import dvc"]
    with GitOdb(here.git, here.format) as odb:
        old, new = (files_of(here, odb, revision) for revision in ("main~1", "main"))
        assert set(old) == {
            b".dvc/config", b".dvc/.gitignore", b".gitattributes", b".gitignore", b"a.bin", b"d/sub/y.txt", b"d/x.bin",
            b"data/t.csv",
        }  # fmt: skip
        assert set(new) == {*old, b"d/z.bin", b"dvc.lock", b"dvc.yaml", b"m.json", b"model.bin"}
        assert old[b"a.bin"].content == noise(1)
        assert (new[b"a.bin"].mode, new[b"a.bin"].content) == (0o100755, noise(3))
        assert old[b"d/x.bin"].content == new[b"d/x.bin"].content == noise(2)
        assert new[b"d/sub/y.txt"].content == b"hi\n"
        assert new[b"d/z.bin"].content == noise(4)
        assert new[b"data/t.csv"].content == text(1)
        assert new[b"model.bin"].content == noise(5)
        assert all(is_pointer(odb.read(new[path].oid)[1]) for path in (b"a.bin", b"d/x.bin", b"data/t.csv"))
        assert old[b".gitignore"].content == b"*.tmp\n/model.bin\n"
        assert new[b".gitignore"].content == b"*.tmp\n"
        assert old[b".gitattributes"].content == (
            b"/a.bin filter=ml -text\n/d/** filter=ml -text\n/data/t.csv filter=ml -text\n"
        )
    assert here.git.run("fsck", "--strict").stderr == b""
    assert status(repo) == ""
    assert (repo / "d/x.bin").read_bytes() == noise(2)
    assert not (repo / "a.bin.dvc").exists()


def test_one_commit_takes_files_over_where_they_lie(repo: Path) -> None:
    dvc = project(repo)
    set_up(repo)
    (repo / "a.bin").write_bytes(noise(3))
    (repo / "a.bin").chmod(0o755)
    (repo / "d/sub").mkdir(parents=True)
    cached = dvc.root / "files/md5" / hashlib.md5(noise(2)).hexdigest()[:2] / hashlib.md5(noise(2)).hexdigest()[2:]
    (repo / "d/x.bin").hardlink_to(cached)
    (repo / "data/t.csv").symlink_to(
        dvc.root / "files/md5" / hashlib.md5(text(1)).hexdigest()[:2] / hashlib.md5(text(1)).hexdigest()[2:]
    )
    run(repo, source="dvc")
    assert status(repo) == ""
    assert not (repo / "data/t.csv").is_symlink()
    assert (repo / "data/t.csv").read_bytes() == text(1)
    assert (repo / "d/x.bin").stat().st_nlink == 1
    assert (repo / "d/z.bin").read_bytes() == noise(4)
    assert cached.read_bytes() == noise(2)


def test_chosen_outputs_leave_dvc(repo: Path) -> None:
    project(repo)
    here = set_up(repo)
    run(repo, source="dvc", include=("d/**",))
    with GitOdb(here.git, here.format) as odb:
        files = files_of(here, odb, "main")
    assert b"d/x.bin" in files
    assert b"a.bin.dvc" in files
    assert b"a.bin" not in files
    assert files[b".gitignore"].content == b"/a.bin\n*.tmp\n/model.bin\n"


def test_missing_contents_are_named_or_stay_with_dvc(repo: Path) -> None:
    dvc = project(repo)
    here = set_up(repo)
    md5 = hashlib.md5(noise(1)).hexdigest()
    (dvc.root / "files/md5" / md5[:2] / md5[2:]).unlink()
    old = here.resolve("main")
    with pytest.raises(ConversionError, match=f"'a.bin': DVC content '{md5}' is missing"):
        run(repo, source="dvc", choice=Choice(("main",)))
    assert here.resolve("main") == old
    outcome = run(repo, source="dvc", choice=Choice(("main",)), skip_missing=True)
    assert outcome.missing == [b"a.bin"]
    with GitOdb(here.git, here.format) as odb:
        assert b"a.bin.dvc" in files_of(here, odb, "main~1")
        assert files_of(here, odb, "main")[b"a.bin"].content == noise(3)


def test_damaged_contents_stop_everything(repo: Path) -> None:
    dvc = project(repo)
    set_up(repo)
    dvc.put(b"damaged", md5=hashlib.md5(noise(1)).hexdigest())
    with pytest.raises(ConversionError, match="damaged"):
        run(repo, source="dvc", choice=Choice(("main",)), skip_missing=True)


def test_a_directory_that_is_a_remote_serves_what_the_cache_lacks(repo: Path, tmp_path: Path) -> None:
    dvc = Dvc(tmp_path / "store")
    history = History()
    config = f"[core]\n    remote = here\n['remote \"here\"']\n    url = {tmp_path}/store\n"
    history.commit(
        "main",
        b"one",
        {
            b".dvc/config": config.encode(),
            b"deep/a.dvc": b"wdir: ..\n" + dvc.file("up/a.bin", noise(1), ""),
            b"odd/imported.dvc": b"deps:\n- url: https://example.org\n" + dvc.file("i.bin", noise(2)),
            b"far.dvc": b"outs:\n- md5: %s\n  path: s3://bucket/far\n" % (b"1" * 32),
            b"broken.dvc": b"outs: [\n",
        },
    )
    history.write(repo)
    here = set_up(repo)
    outcome = run(repo, source="dvc")
    with GitOdb(here.git, here.format) as odb:
        files = files_of(here, odb, "main")
    assert files[b"up/a.bin"].content == noise(1)
    assert files[b"odd/i.bin"].content == noise(2)
    assert {b"far.dvc", b"broken.dvc"} <= set(files)
    assert b"deep/a.dvc" not in files
    assert outcome.notes == [
        "'broken.dvc' cannot be read and stays as it is",
        "'s3://bucket/far' of 'far.dvc' stays with DVC: it lies outside the repository",
        "'odd/imported.dvc' was an import: its content is taken over, where it came from is not",
    ]


@pytest.mark.parametrize("name", ["yes", "off", "007", "1_000", "1:30", "1.10", "2024-01-01", "0x1f", ".inf"])
def test_names_are_what_stands_there(repo: Path, name: str) -> None:
    dvc = Dvc(repo / ".dvc/cache")
    digits = "1234567890" * 3 + "12"  # a number to a reader of YAML
    dvc.put(noise(1), md5=digits)
    history = History()
    written = f"outs:\n- md5: {digits}\n  hash: md5\n  isexec: false\n  path: {name}\n".encode()
    history.commit("main", b"one", {b"a.dvc": written, b"b.dvc": b"outs:\n- cache: false\n  path: no\ndeps:\n"})
    history.write(repo)
    set_up(repo)
    with pytest.raises(ConversionError, match=rf"\n'{re.escape(name)}': .* expected {digits}$"):
        run(repo, source="dvc")


def test_merged_keys_and_nothing_mean_what_they_mean_to_dvc(repo: Path) -> None:
    dvc = Dvc(repo / ".dvc/cache")
    history = History()
    out = f"{{path: model.bin, hash: md5, md5: {dvc.put(noise(5))}}}"
    files: Files = {
        b"dvc.yaml": b"common: &c {wdir: sub}\nstages:\n  train: {<<: *c, cmd: train, outs: [model.bin]}\n",
        b"dvc.lock": f"schema: '2.0'\nstages:\n  train:\n    outs: [{out}]\n".encode(),
        b"none.dvc": b"outs:\n- path: none\n  md5:\n",
        b"empty.dvc": b"outs:\n",
        b"nameless.dvc": b"outs:\n- path: ~\n  md5: 00\n",
    }
    history.commit("main", b"one", files)
    history.write(repo)
    here = set_up(repo)
    outcome = run(repo, source="dvc")
    with GitOdb(here.git, here.format) as odb:
        found = files_of(here, odb, "main")
    assert found[b"sub/model.bin"].content == noise(5)
    assert set(found) == {*files, b".gitattributes", b"sub/model.bin"}
    assert set(outcome.notes) == {
        "'none' of 'none.dvc' stays with DVC: it has no MD5",
        "'empty.dvc' cannot be read and stays as it is",
        "'nameless.dvc' cannot be read and stays as it is",
        "'dvc.lock' and its dvc.yaml stay: stages come with git ml import dvc",
    }


def test_digests_of_old_dvc_are_those_of_text_with_lf(repo: Path) -> None:
    dvc = Dvc(repo / ".dvc/cache", ".")
    content = text(3).replace(b"\n", b"\r\n")
    md5 = dvc.put(content, md5=hashlib.md5(text(3)).hexdigest())
    history = History()
    history.commit("main", b"one", {b"t.csv.dvc": f"outs:\n- md5: {md5}\n  path: t.csv\n".encode()})
    history.write(repo)
    here = set_up(repo)
    run(repo, source="dvc")
    with GitOdb(here.git, here.format) as odb:
        assert files_of(here, odb, "main")[b"t.csv"].content == content
    assert run_git(repo, "ls-files") == ".gitattributes\nt.csv"
    assert Repository.discover(repo).resolve("main~1")
