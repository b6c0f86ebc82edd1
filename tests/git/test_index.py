import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gitml.errors import BusyError
from gitml.git.index import Clean, Index, UnsupportedIndexError, record_clean
from gitml.git.repository import Repository
from gitml.oid import ObjectFormat, Oid
from tests.conftest import run_git

OLD = 1_600_000_000
CONTENTS = {
    "a.big": b"a" * 3000,
    "b.txt": b"b\n",
    "d/" + "long " * 40 + ".big": b"long" * 900,
    os.fsdecode(b"d/odd\n\xff\t.big"): b"odd" * 1000,
    "d/e/tool.big": b"#!/bin/sh\n" * 500,
    "f.big": b"f" * 5000,
}


class Sample:
    """A repository whose `.big` files go through a filter that leaves a line in a log whenever it reads one."""

    def __init__(self, top: Path, object_format: ObjectFormat = ObjectFormat.SHA1) -> None:
        self.top = top
        self.log = top.parent / "cleaned"
        top.mkdir(exist_ok=True)
        self.git("init", "-q", f"--object-format={object_format.value}")
        self.git("config", "filter.logged.clean", f"echo cleaned >>'{self.log}'; tr a-z A-Z")
        self.git("config", "filter.logged.smudge", "tr A-Z a-z")
        self.git("config", "filter.logged.required", "true")
        (top / ".gitattributes").write_text("*.big filter=logged -text\n")
        for name, content in CONTENTS.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_bytes(content)
        (top / "d/e/tool.big").chmod(0o755)
        (top / "link.big").symlink_to("a.big")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "c")
        self.repository = Repository.discover(top)

    def git(self, *arguments: str, **extra: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.top, env={**os.environ, **extra}, capture_output=True, check=True
        )
        return os.fsdecode(done.stdout)

    def replace(self, *names: str, moment: int = OLD) -> dict[bytes, Clean]:
        """Write files anew, as the content of a pointer comes to stand in its place; what is known of them then."""
        known = {}
        for name in names:
            place = self.top / name
            aside = place.with_name("aside")
            aside.write_bytes(place.read_bytes())
            aside.chmod(place.stat().st_mode)
            aside.rename(place)
            os.utime(place, (moment, moment))
            known[os.fsencode(name)] = Clean(self.oid(name), place.lstat())
        return known

    def oid(self, name: str) -> Oid:
        return Oid.parse(self.git("rev-parse", f":{name}").strip())

    def debug(self, **extra: str) -> str:
        return self.git("ls-files", "--debug", "-s", "-t", "-z", **extra)

    def as_git_would_write_it(self) -> str:
        copy = self.top / ".git/copy"
        copy.write_bytes(self.index.read_bytes())
        os.utime(copy, (OLD + 100, OLD + 100))
        self.git("update-index", "-q", "--refresh", GIT_INDEX_FILE=str(copy))
        return self.debug(GIT_INDEX_FILE=str(copy))

    @property
    def index(self) -> Path:
        return self.top / ".git/index"

    def status(self) -> str:
        return self.git("status", "--porcelain", "-uno", GIT_OPTIONAL_LOCKS="0")

    def cleaned(self) -> int:
        lines = len(self.log.read_bytes().splitlines()) if self.log.exists() else 0
        self.log.unlink(missing_ok=True)
        return lines


def all_big(sample: Sample) -> list[str]:
    return [name for name in CONTENTS if name.endswith(".big")]


def settle(sample: Sample) -> None:
    """Make everything but later writes older than the index."""
    for name in [*CONTENTS, ".gitattributes"]:
        os.utime(sample.top / name, (OLD, OLD))
    os.utime(sample.top / "link.big", (OLD, OLD), follow_symlinks=False)
    sample.git("update-index", "-q", "--refresh")
    assert sample.status() == ""
    sample.cleaned()


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    sample = Sample(tmp_path / "repo")
    settle(sample)
    return sample


def skipped_and_intended(sample: Sample) -> None:
    """Version 3: entries with more flags."""
    sample.git("update-index", "--skip-worktree", "b.txt")
    (sample.top / "new.big").write_bytes(b"new")
    sample.git("add", "-N", "new.big")


def compressed(sample: Sample) -> None:
    """Version 4: names that share their beginning."""
    sample.git("update-index", "--index-version", "4")


def compressed_with_flags(sample: Sample) -> None:
    compressed(sample)
    skipped_and_intended(sample)


def extensions(sample: Sample) -> None:
    """Untracked cache, cache tree, resolved conflicts."""
    sample.git("update-index", "--untracked-cache")
    sample.git("status")
    sample.git("write-tree")


def without_checksum(sample: Sample) -> None:
    """As with `index.skipHash`."""
    data = sample.index.read_bytes()
    sample.index.write_bytes(data[:-20] + bytes(20))


def nothing(sample: Sample) -> None:
    """Version 2."""


@pytest.mark.parametrize(
    "prepare", [nothing, skipped_and_intended, compressed, compressed_with_flags, extensions, without_checksum]
)
def test_files_are_clean_and_git_reads_no_content(sample: Sample, prepare: Callable[[Sample], None]) -> None:
    prepare(sample)
    files = sample.replace(*all_big(sample))
    expected, before = sample.as_git_would_write_it(), sample.index.read_bytes()
    status = sample.status()
    assert sample.cleaned() > 0
    assert record_clean(sample.repository, files) == set(files)
    assert sample.debug() == expected
    assert sample.status() == status
    assert sample.cleaned() == 0
    assert sample.index.stat().st_mode & 0o777 == 0o644
    after = sample.index.read_bytes()
    assert len(after) == len(before)
    assert any(after[-20:]) == (prepare is not without_checksum)
    if prepare is not without_checksum:
        sample.git("fsck", "--strict")
    assert not (sample.top / ".git/index.lock").exists()


def test_sha256(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "repo", ObjectFormat.SHA256)
    settle(sample)
    for version in ("2", "4"):
        sample.git("update-index", "--index-version", version)
        files = sample.replace(*all_big(sample))
        expected = sample.as_git_would_write_it()
        sample.cleaned()
        assert record_clean(sample.repository, files) == set(files)
        assert sample.debug() == expected
        assert sample.status() == ""
        assert sample.cleaned() == 0


@pytest.mark.parametrize("setting", ["core.checkStat=minimal", "core.trustctime=false"])
def test_other_ways_to_compare(sample: Sample, setting: str) -> None:
    sample.git("config", *setting.split("="))
    assert record_clean(sample.repository, sample.replace("a.big")) == {b"a.big"}
    assert sample.status() == ""
    assert sample.cleaned() == 0


def test_the_trailer_of_skip_hash_of_a_new_git_is_kept(sample: Sample) -> None:
    without_checksum(sample)
    record_clean(sample.repository, sample.replace("a.big"))
    assert sample.index.read_bytes()[-20:] == bytes(20)
    assert sample.status() == ""


def test_conflicts_stay_as_they_are(sample: Sample) -> None:
    oid = sample.oid("a.big")
    lines = b"".join(b"100644 %s %d\tb.txt\0" % (oid.hex().encode(), stage) for stage in (1, 2, 3))
    run_git(sample.top, "update-index", "-z", "--index-info", stdin=b"0 " + b"0" * 40 + b"\tb.txt\0" + lines)
    state = (sample.top / "b.txt").lstat()
    files = {**sample.replace("a.big"), b"b.txt": Clean(oid, state)}
    before = [entry for entry in Index(sample.index.read_bytes(), ObjectFormat.SHA1) if entry.stage]
    assert [entry.stage for entry in before] == [1, 2, 3]
    assert record_clean(sample.repository, files) == {b"a.big"}
    assert sample.status() == "UU b.txt\n"


def test_what_is_not_known_to_be_clean_is_not_recorded(sample: Sample) -> None:
    files = sample.replace("a.big", "f.big", "d/e/tool.big")
    (sample.top / "a.big").write_bytes(b"x" * 3000)  # of the same size
    (sample.top / "f.big").unlink()
    files[b"d/e/tool.big"] = Clean(sample.oid("a.big"), files[b"d/e/tool.big"].state)
    files[b"link.big"] = Clean(sample.oid("link.big"), (sample.top / "link.big").lstat())
    files[b"absent.big"] = files[b"f.big"]
    before = sample.index.read_bytes()
    assert record_clean(sample.repository, files) == set()
    assert sample.index.read_bytes() == before
    assert sample.status() == " M a.big\n D f.big\n"


def test_a_file_changed_in_the_same_second_is_seen(sample: Sample) -> None:
    # b.txt: staged, changed at once, same size, same second as the index; git knows from the times alone to compare
    moment = OLD + 50
    (sample.top / "b.txt").write_bytes(b"1\n")
    os.utime(sample.top / "b.txt", (moment, moment))
    sample.git("add", "b.txt")
    (sample.top / "b.txt").write_bytes(b"2\n")
    os.utime(sample.top / "b.txt", (moment, moment))
    sample.git("-c", "core.trustctime=false", "update-index", "-q", "--refresh")
    os.utime(sample.index, (moment, moment))
    sample.git("config", "core.trustctime", "false")
    sample.git("config", "core.checkStat", "minimal")
    assert sample.status() == "MM b.txt\n"
    assert record_clean(sample.repository, sample.replace("a.big")) == {b"a.big"}
    assert sample.index.stat().st_mtime > moment
    assert sample.status() == "MM b.txt\n"


def test_racily_clean_files_that_are_clean_stay_so(sample: Sample) -> None:
    os.utime(sample.index, (OLD, OLD))
    assert record_clean(sample.repository, sample.replace("a.big")) == {b"a.big"}
    blocks = sample.debug().split("\0")
    names = [block.rpartition("\t")[2] for block in blocks[:-1]]
    sizes = {name: int(block.partition("size: ")[2].split()[0]) for name, block in zip(names, blocks[1:], strict=True)}
    assert (sizes["b.txt"], sizes[".gitattributes"], sizes["link.big"], sizes["a.big"]) == (2, 26, 5, 3000)
    assert sizes["f.big"] == 0, "only git can tell: its filter has to be asked"
    assert sample.status() == ""


def test_a_locked_index_is_left_alone(sample: Sample) -> None:
    files = sample.replace("a.big")
    lock = sample.top / ".git/index.lock"
    lock.touch()
    before = sample.index.read_bytes()
    with pytest.raises(BusyError, match="index is locked"):
        record_clean(sample.repository, files)
    assert lock.exists()
    assert sample.index.read_bytes() == before


def test_git_is_asked_for_what_only_git_can_do(sample: Sample) -> None:
    files = sample.replace("a.big")
    good = sample.index.read_bytes()

    def refused(data: bytes) -> str:
        sample.index.write_bytes(data)
        with pytest.raises(UnsupportedIndexError) as caught:
            record_clean(sample.repository, files)
        assert sample.index.read_bytes() == data
        assert not (sample.top / ".git/index.lock").exists()
        return caught.value.message

    assert "version 5" in refused(good[:7] + b"\5" + good[8:-20] + bytes(20))
    assert "checksum" in refused(good[:100] + b"x" + good[101:])
    assert "too short" in refused(good[:10])
    assert "cut short" in refused(good[:300] + bytes(20))
    assert "'what' is not known" in refused(good[:-20] + b"what\0\0\0\0" + bytes(20))
    sample.index.write_bytes(good)
    sample.git("update-index", "--split-index")
    assert "split" in refused(sample.index.read_bytes())


@pytest.mark.parametrize("version", [2, 4])
def test_names_longer_than_their_length_can_say(sample: Sample, version: int) -> None:
    oid = sample.oid("a.big").hex().encode()
    names = [b"n" * 4094, b"n" * 4095, b"n" * 4096, b"n" * 5000, b"z"]
    run_git(
        sample.top, "update-index", "-z", "--index-info", stdin=b"".join(b"100644 %s\t%s\0" % (oid, n) for n in names)
    )
    sample.git("update-index", "--index-version", str(version))
    listed = os.fsencode(sample.git("ls-files", "-z")).split(b"\0")[:-1]
    assert [entry.path for entry in Index(sample.index.read_bytes(), ObjectFormat.SHA1)] == listed
    assert set(names) < set(listed)


def test_a_sparse_index_is_patched(sample: Sample) -> None:
    sample.git("sparse-checkout", "set", "--cone", "--sparse-index", "d/e")
    files = sample.replace("a.big", "d/e/tool.big")
    assert record_clean(sample.repository, files) == set(files)
    assert sample.status() == ""
    assert sample.cleaned() == 0
