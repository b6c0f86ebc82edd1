import errno
import gc
import hashlib
import io
import os
import pickle
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import gitml
from gitml.errors import CorruptError, GitmlError, MissingDataError, UserError
from gitml.git.packindex import ObjectIndex
from gitml.oid import Oid
from gitml.reading.source import ContentDamagedError, ContentMissingError
from gitml.reading.view import View
from gitml.store.pointer import Pointer, format_pointer, parse_pointer
from tests.reading.conftest import Store, noise

BIG = noise(3_000_000)
ODD = b"data/new\nline \xff"


def test_a_file_of_any_revision(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store.commit({b"data/big": BIG, b"data/small": b"old", ODD: noise(70_000), b"empty": b""})
    store.git("tag", "v1.2")
    store.commit({b"data/small": b"new"})
    with gitml.open("data/big", "v1.2", store.path) as file:
        assert isinstance(file, io.BufferedReader)
        assert (file.size, file.name, file.tell(), file.closed) == (len(BIG), "v1.2:data/big", 0, False)
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        assert file.seek(2_000_000) == 2_000_000
        assert file.read(1000) == BIG[2_000_000:2_001_000]
        file.seek(0)
        assert file.read() == BIG
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.read()
    monkeypatch.chdir(store.path)
    assert gitml.open("data/small").read() == b"new"
    assert gitml.open(Path("data/small"), first).read() == b"old"
    assert gitml.open(ODD, first[:12]).read() == noise(70_000)
    assert gitml.open("data/small", f"{first}^{{tree}}").read() == b"old"
    assert gitml.open("empty", "v1.2").read() == b""
    assert gitml.open("empty", "HEAD~1").size == 0
    with io.TextIOWrapper(gitml.open("data/small")) as text:
        assert text.read() == "new"


def test_where_paths_are_from(store: Store) -> None:
    (store.path / "data/deep").mkdir(parents=True)
    store.commit({b"data/x": b"x", b"data/deep/y": b"y", b"top": b"t"})
    assert gitml.open("data/x", repo=store.path / "data").read() == b"x"
    assert gitml.open("./x", repo=store.path / "data").read() == b"x"
    assert gitml.open("../x", repo=store.path / "data/deep").read() == b"x"
    assert gitml.open("../../top", repo=store.path / "data/deep").read() == b"t"
    assert gitml.open("data//./deep/../x", repo=store.path).read() == b"x"
    with pytest.raises(FileNotFoundError) as raised:
        gitml.open("x", repo=store.path / "data")
    assert raised.value.__notes__ == ["hint: paths are from the top of the repository: 'data/x'"]
    for outside in ("../top", "./../../x", "/data/x"):
        with pytest.raises(FileNotFoundError, match="outside the repository"):
            gitml.open(outside, repo=store.path)


@pytest.mark.parametrize(
    ("path", "rev", "kind", "number", "message"),
    [
        ("data/none", "HEAD", FileNotFoundError, errno.ENOENT, "there is no 'data/none' in HEAD"),
        ("data/x/y", "HEAD", FileNotFoundError, errno.ENOENT, "there is no 'data/x/y' in HEAD"),
        ("data", "HEAD", IsADirectoryError, errno.EISDIR, "'data' is a directory in HEAD"),
        ("", "HEAD", IsADirectoryError, errno.EISDIR, "'.' is a directory in HEAD"),
        ("data/x", "v9", FileNotFoundError, errno.ENOENT, "unknown revision 'v9'"),
        ("data/x", "a\nb", FileNotFoundError, errno.ENOENT, "unknown revision 'a\nb'"),
        ("data/x", "--help", FileNotFoundError, errno.ENOENT, "unknown revision '--help'"),
        ("data/circle", "HEAD", OSError, errno.ELOOP, "too many symbolic links at 'data/circle'"),
        ("data/out", "HEAD", FileNotFoundError, errno.ENOENT, "it leads out of the repository"),
        ("data/absolute", "HEAD", FileNotFoundError, errno.ENOENT, "a symbolic link leads to '/etc/passwd'"),
        ("data/broken", "HEAD", OSError, errno.EIO, "malformed pointer"),
    ],
)
def test_errors_are_those_of_open(
    store: Store, path: str, rev: str, kind: type[OSError], number: int, message: str
) -> None:
    store.commit(
        {b"data/x": b"x", b"data/broken": b"gitml pointer 1\nsha256 what\n"},
        {b"data/circle": b"circle", b"data/out": b"../../x", b"data/absolute": b"/etc/passwd"},
    )
    with pytest.raises(kind) as raised:
        gitml.open(path, rev, store.path)
    error = raised.value
    assert isinstance(error, GitmlError)
    assert error.errno == number
    assert message in str(error) == error.message
    assert getattr(error, "__notes__", []) == ([f"hint: {error.hint}"] if error.hint else [])
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.errno, again.hint) == (type(error), str(error), number, error.hint)


def test_no_repository_and_no_commit(store: Store, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for place in (tmp_path / "none", tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match="cannot open repository") as raised:
            gitml.open("x", repo=place)
        assert isinstance(raised.value, UserError | GitmlError)
    with pytest.raises(FileNotFoundError, match="there is no commit yet"):
        gitml.open("x", repo=store.path)


def test_links_are_followed_in_the_tree(store: Store) -> None:
    links = {b"link": b"data/big", b"latest": b"data", b"data/up": b"../link", b"data/deep/l": b".././up"}
    store.commit({b"data/big": BIG, b"data/deep/x": b"x"}, links)
    for path in ("link", "latest/big", "data/up", "latest/deep/l", "latest/deep/../up"):
        assert gitml.open(path, repo=store.path).read() == BIG


def test_a_submodule_is_no_file(store: Store) -> None:
    commit = store.commit({b"x": b"x"})
    store.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    store.git("commit", "-q", "-m", "submodule")
    with pytest.raises(IsADirectoryError, match="'sub' is a submodule"):
        gitml.open("sub", repo=store.path)
    with pytest.raises(FileNotFoundError):
        gitml.open("sub/x", repo=store.path)


def test_a_large_plain_blob(store: Store) -> None:
    content = noise(5_000_000)
    store.commit({b"plain": b"raw:" + content})
    with gitml.open("plain", repo=store.path) as file:
        assert file.size == len(content)
        file.seek(4_999_000)
        assert file.read() == content[4_999_000:]
        file.seek(0)
        assert file.read() == content


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("bare", [False, True])
def test_every_kind_of_repository(tmp_path: Path, object_format: str, bare: bool) -> None:
    where = tmp_path / "made"
    subprocess.run(["git", "init", "-q", f"--object-format={object_format}", where], check=True)
    made = Store(where)
    made.commit({b"data/big": BIG})
    if bare:
        subprocess.run(["git", "clone", "-q", "--mirror", where, tmp_path / "bare"], check=True)
        shutil.rmtree(where)
        made = Store(tmp_path / "bare")
    made.git("gc", "-q")
    with gitml.open("data/big", repo=made.path) as file:
        assert file.read() == BIG


def test_only_what_is_read_arrives(store: Store, away: Callable[[Store], Store]) -> None:
    content = noise(50_000_000)
    store.commit({b"data/big": content, b"data/other": noise(1_000_000, 1)})
    clone = away(store)
    before = clone.blobs()
    with gitml.open("data/big", repo=clone.path) as file:
        file.seek(25_000_000)
        assert file.read(1024) == content[25_000_000:25_001_024]
    arrived = clone.blobs() - before
    pointer = parse_pointer(store.git("cat-file", "blob", "HEAD:data/big").encode() + b"\n")
    assert len(arrived) == 2
    assert pointer.manifest.hex() in arrived
    clone.git("fsck", "--strict")
    # and a second time nothing has to come
    clone.git("remote", "set-url", "origin", "/nowhere")
    with gitml.open("data/big", repo=clone.path) as file:
        file.seek(25_000_000)
        assert file.read(1024) == content[25_000_000:25_001_024]


def test_a_whole_file_comes_in_few_requests(
    store: Store, away: Callable[[Store], Store], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.commit({b"data/big": noise(20_000_000)})
    clone = away(store)
    monkeypatch.setenv("GIT_TRACE2", str(tmp_path / "trace"))
    with gitml.open("data/big", repo=clone.path) as file:
        assert hashlib.sha256(file.read()).digest() == hashlib.sha256(noise(20_000_000)).digest()
    started = [line.split() for line in (tmp_path / "trace").read_text().splitlines() if " start " in line]
    assert sum("fetch" in words for words in started) == 2  # the manifest, the chunks


def test_content_that_nobody_has(store: Store, away: Callable[[Store], Store]) -> None:
    store.commit({b"data/big": BIG, b"data/small": b"small"})
    clone = away(store)
    for remote, said in (("/nowhere", "cannot fetch data from 'origin'"), (None, "no remote has")):
        if remote is None:
            clone.git("remote", "remove", "origin")
        else:
            clone.git("remote", "set-url", "origin", remote)
        with pytest.raises(OSError, match="not here") as raised:
            gitml.open("data/big", repo=clone.path)
        error = raised.value
        assert isinstance(error, ContentMissingError)
        assert isinstance(error, MissingDataError)
        assert not isinstance(error, FileNotFoundError)
        assert said in str(error)
        assert error.hint
    assert gitml.open("data/small", repo=clone.path).read() == b"small"


def test_a_chunk_that_is_gone_or_damaged(store: Store) -> None:
    store.commit({b"data/big": BIG})
    with View.open(store.path) as view:
        pointer = parse_pointer(store.git("cat-file", "blob", "HEAD:data/big").encode() + b"\n")
        chunks = view.source.manifest(pointer).chunks
    index = ObjectIndex(store.repository.objects_dir, store.repository.format)
    [(pack, offset)] = index.locate(chunks[2].oid)
    damaged = bytearray(pack.read_bytes())
    damaged[offset + 5000] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(damaged)
    with gitml.open("data/big", repo=store.path) as file:
        assert file.read(chunks[0].size) == BIG[: chunks[0].size]
        with pytest.raises(OSError, match="damaged") as raised:
            file.read()
        assert isinstance(raised.value, ContentDamagedError)
        assert isinstance(raised.value, CorruptError)
        file.seek(-10, os.SEEK_END)
        assert file.read() == BIG[-10:]


def test_a_pointer_that_lies(store: Store) -> None:
    store.commit({b"data/big": BIG})
    true = parse_pointer(store.git("cat-file", "blob", "HEAD:data/big").encode() + b"\n")
    lies = {
        b"size": Pointer(true.sha256, true.size + 1, true.manifest),
        b"sha": Pointer(bytes(32), true.size, true.manifest),
        b"hash": Pointer(true.sha256, true.size, Oid(bytes(32))),
    }
    store.commit({name: format_pointer(pointer) for name, pointer in lies.items()}, cover=False)
    for name in (b"size", b"hash"):
        with pytest.raises(ContentDamagedError, match="manifest"):
            gitml.open(name, repo=store.path)
    with gitml.open("sha", repo=store.path) as file, pytest.raises(ContentDamagedError, match="content has sha256"):
        file.read()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> list[str]:
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_nothing_is_left_behind(store: Store) -> None:
    store.commit({b"data/big": BIG, b"plain": b"raw:" + noise(5_000_000), b"broken": b"gitml pointer 1\n"})
    gc.collect()
    before = descriptors(), children(), threading.active_count()
    for _ in range(5):
        gitml.open("data/big", repo=store.path).read()  # never closed
        gitml.open("plain", repo=store.path)
        with gitml.open("data/big", repo=store.path) as file:
            file.read(10)
        for wrong in ("none", "broken", ""):
            with pytest.raises(OSError, match="in HEAD"):
                gitml.open(wrong, repo=store.path)
        with pytest.raises(FileNotFoundError):
            gitml.open("x", "v9", store.path)
    gc.collect()
    assert (descriptors(), children(), threading.active_count()) == before


def test_threads_read_files_of_one_view(store: Store) -> None:
    files = {b"data/%d" % number: noise(2_000_000, number) for number in range(6)}
    store.commit(files)
    wrong: list[bytes] = []

    def read(view: View, path: bytes) -> None:
        with view.open_file(path) as file:
            for at in (1_500_000, 0, 700_000):
                file.seek(at)
                if file.read(400_000) != files[path][at : at + 400_000]:
                    wrong.append(path)
            file.seek(0)
            if file.read() != files[path]:
                wrong.append(path)

    with View.open(store.path) as view:
        threads = [threading.Thread(target=read, args=(view, path)) for path in files]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_reads_by_itself(store: Store) -> None:
    store.commit({b"data/big": BIG, b"data/other": noise(200_000, 5)})
    view = View.open(store.path)
    file = view.open_file(b"data/big")
    assert file.read(2_000_000) == BIG[:2_000_000]  # threads are reading ahead
    can_go, go = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            good = file.read() == BIG[2_000_000:] and view.open_file(b"data/other").read() == noise(200_000, 5)
            os.close(go)
            os.read(can_go, 1)  # alive, with copies of all descriptors, while the parent closes
            status = 0 if good else 2
        finally:
            os._exit(status)
    os.close(can_go)
    assert file.read() == BIG[2_000_000:]
    file.close()
    view.close()
    os.close(go)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_another_process_repacks_meanwhile(store: Store) -> None:
    store.commit({b"data/big": BIG})
    with gitml.open("data/big", repo=store.path) as file:
        assert file.read(100_000) == BIG[:100_000]
        store.git("repack", "-adq")
        assert file.read() == BIG[100_000:]
