"""What happens when the network, the service or the stored bytes are not as they should be.

A fault that passes is not noticed. One that stays ends the command with one message, and nothing has changed.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.end_to_end.project import Project
from tests.remote.conftest import NewStore, clone, commit
from tests.remote.faulty import EXPECTED, Fault, Proxy, faulty
from tests.stores import address

PIECE = 16 << 20


@pytest.fixture
def proxy(moto: str) -> Iterator[Proxy]:
    with faulty(moto) as running:
        yield running


@pytest.fixture
def url(proxy: Proxy, tmp_path: Path) -> str:
    return address(proxy.endpoint, "bucket", f"faults/{tmp_path.name}-{random.randrange(1 << 30)}")


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def fails(project: Project, *arguments: str) -> str:
    """Run git, which must fail with one clear message; give all it said."""
    done = project.run("git", *arguments, check=False)
    assert done.returncode not in (0, 1) or "push" in arguments, (done.returncode, done.stderr)
    assert done.returncode != 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("fatal: ")]
    assert said, done.stderr
    return done.stderr


def same(one: Project, other: Project) -> None:
    """Both are sound and have the same commit."""
    assert other.head() == one.head()
    assert other.git("rev-parse", "HEAD^{tree}") == one.git("write-tree")
    assert other.is_clean()
    other.git("fsck", "--strict", "--full")


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_fault_that_passes_is_not_noticed(kind: str, proxy: Proxy, url: str, work: Project, tmp_path: Path) -> None:
    proxy.faults = [Fault(kind, method, count=2) for method in ("PUT", "GET", "HEAD")]
    work.git("push", "-q", url, "main")
    other = clone(url, tmp_path / "other")
    same(work, other)
    for fault in proxy.faults:
        fault.happened = 0
    commit(work, "two\n" * 2000)
    work.git("push", "-q", url, "main")
    other.git("pull", "-q")
    same(work, other)
    if kind != "stale":
        assert any(each.fault == kind for each in proxy.seen)


@pytest.mark.parametrize("kind", ["500", "cut body", "stale", "lose"])
def test_faults_of_a_list_and_of_pieces(kind: str, proxy: Proxy, url: str, work: Project, tmp_path: Path) -> None:
    work.write("large", noise(PIECE + (1 << 20), 1))
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "large")
    proxy.faults = [Fault("500", "PUT", r"/00001\b", count=None)]
    fails(work, "push", "-q", url, "main")
    # the first piece is there now; a list that is out of date does not know
    proxy.faults = [Fault(kind, "LIST", count=2), Fault(kind, "PUT", r"/0000\d", count=2)]
    before = len(proxy.seen)
    work.git("push", "-q", url, "main")
    again = proxy.seen[before:]
    assert any(each.method == "LIST" and each.fault == kind for each in again)
    assert any(each.method == "PUT" and "/00001" in each.path for each in again)
    assert any(each.method == "PUT" and "/00000" in each.path for each in again) is (kind == "stale")
    proxy.faults = [Fault(kind, "GET", r"/0000\d", count=2), Fault("short body", "GET", r"/0000\d")]
    same(work, clone(url, tmp_path / "other"))


@pytest.mark.parametrize("happens", ["500", "cut"])
def test_a_store_that_is_down_ends_every_command_with_one_message(
    happens: str, proxy: Proxy, url: str, work: Project, tmp_path: Path
) -> None:
    work.git("remote", "add", "origin", url)
    work.git("push", "-q", "origin", "main")
    other = clone(url, tmp_path / "other")
    before = commit(work, "two\n"), work.head("origin/main"), other.head("origin/main")
    proxy.faults = [Fault(happens, count=None)]
    said = fails(work, "push", "origin", "main")
    assert sum(line.startswith("fatal: ") for line in said.splitlines()) == 1, said
    said = fails(other, "fetch")
    assert sum(line.startswith("fatal: ") for line in said.splitlines()) == 1, said
    assert ("as the test wants it" if happens == "500" else "no answer from") in said
    fails(Project(tmp_path), "clone", url, "third")
    assert not (tmp_path / "third").exists()
    proxy.faults = []
    assert before == (work.head(), work.head("origin/main"), other.head("origin/main"))
    assert work.git("ls-remote", url, "refs/heads/main").split()[0] == before[1]
    work.git("push", "-q", "origin", "main")
    other.git("pull", "-q")
    same(work, other)


@pytest.mark.parametrize(("method", "path"), [("PUT", r"\.pack"), ("PUT", r"\.index"), ("PUT", r"refs\.json")])
def test_a_write_that_fails_for_good_changes_nothing(
    method: str, path: str, proxy: Proxy, url: str, work: Project, tmp_path: Path
) -> None:
    work.git("remote", "add", "origin", url)
    work.git("push", "-q", "origin", "main")
    old = work.head()
    commit(work, "two\n")
    proxy.faults = [Fault("503", method, path, count=None)]
    fails(work, "push", "origin", "main")
    proxy.faults = []
    assert work.head("origin/main") == old
    assert work.git("ls-remote", url, "refs/heads/main").split()[0] == old
    assert clone(url, tmp_path / "other").head() == old
    work.git("push", "-q", "origin", "main")
    same(work, clone(url, tmp_path / "third"))


@pytest.mark.parametrize(
    ("happens", "path"),
    [
        ("500", r"\.index"),
        ("500", r"refs\.json"),
        ("cut", r"\.pack"),
        ("cut body", r"\.pack"),
        ("short body", r"\.pack"),
    ],
)
def test_a_read_that_fails_for_good_changes_nothing(
    happens: str, path: str, proxy: Proxy, url: str, work: Project, tmp_path: Path
) -> None:
    work.git("push", "-q", url, "main")
    other = clone(url, tmp_path / "other")
    old = other.head("origin/main")
    commit(work, "two\n")
    work.git("push", "-q", url, "main")
    proxy.faults = [Fault(happens, "GET", path, count=None)]
    fails(other, "fetch")
    assert other.head("origin/main") == old
    other.git("fsck", "--strict")
    proxy.faults = []
    other.git("pull", "-q")
    same(work, other)


@pytest.mark.parametrize("count", [1, 3, None], ids=["once", "three times", "always"])
def test_a_push_whose_answer_is_lost_has_happened_once(
    count: int | None, proxy: Proxy, url: str, work: Project, tmp_path: Path
) -> None:
    work.git("push", "-q", url, "main")
    commit(work, "two\n")
    proxy.faults = [Fault("lose", "PUT", r"refs\.json", count=count)]
    said = work.run("git", "push", "--porcelain", url, "main").stdout
    assert [line[:1] for line in said.splitlines() if "refs/heads/main" in line] == [" "], said
    proxy.faults = []
    assert "Everything up-to-date" in work.run("git", "push", url, "main").stderr
    same(work, clone(url, tmp_path / "other"))


def test_a_first_push_whose_answer_is_lost_has_happened(proxy: Proxy, url: str, work: Project, tmp_path: Path) -> None:
    proxy.faults = [Fault("lose", "PUT", count=3), Fault("lose", "PUT", r"refs\.json", count=None)]
    work.git("push", "-q", url, "main")
    proxy.faults = []
    same(work, clone(url, tmp_path / "other"))


def test_a_conflict_that_is_none_is_tried_again(proxy: Proxy, url: str, work: Project) -> None:
    proxy.faults = [Fault("409", "PUT", count=3)]
    work.git("push", "-q", url, "main")
    commit(work, "two\n")
    proxy.faults = [Fault("409", "PUT", r"refs\.json", count=3)]
    work.git("push", "-q", url, "main")
    assert proxy.faults[0].happened == 3
    assert work.git("ls-remote", url, "refs/heads/main").split()[0] == work.head()


def test_the_rest_of_an_answer_that_broke_off_is_too_short(
    proxy: Proxy, url: str, work: Project, tmp_path: Path
) -> None:
    work.git("push", "-q", url, "main")
    proxy.faults = [
        fault
        for path in (r"refs\.json", r"\.index")
        for fault in (Fault("short body", "GET", path), Fault("cut body", "GET", path))
    ]
    same(work, clone(url, tmp_path / "other"))
    assert all(fault.happened for fault in proxy.faults)


def test_a_storm_of_faults(moto: str, work: Project, tmp_path: Path) -> None:
    kinds = [kind for kind in EXPECTED if kind not in ("hang", "409")]
    with faulty(moto) as proxy:
        url = address(proxy.endpoint, "bucket", f"storm/{random.randrange(1 << 30)}")
        work.git("push", "-q", url, "main")
        other = clone(url, tmp_path / "other")
        proxy.faults = [Fault(kind, count=None, probability=0.05) for kind in kinds]
        for number in range(6):
            commit(work, f"{number}\n" * 5000, f"file {number}")
            work.git("push", "-q", url, "main")
            other.git("pull", "-q")
            assert other.head() == work.head()
        same(work, other)
        assert any(each.fault for each in proxy.seen)


@pytest.mark.parametrize("kind", ["azure", "google"])
def test_faults_of_other_services(kind: str, request: pytest.FixtureRequest, work: Project, tmp_path: Path) -> None:
    """Their clients are others: each with its own form of conditions, retries and errors."""
    endpoint = request.getfixturevalue(kind)
    with faulty(endpoint) as proxy:
        start = "az://container" if kind == "azure" else "gs://bucket"
        path = urlsplit(endpoint).path
        url = f"ml::{start}/faults-{random.randrange(1 << 30)}?endpoint={proxy.endpoint}{path}"
        work.git("push", "-q", url, "main")
        other = clone(url, tmp_path / "other")
        tip = commit(work, "two\n" * 2000)
        proxy.faults = [
            Fault("503", "PUT"), Fault("500", "GET"), Fault("cut", "PUT"), Fault("lose", "PUT", r"refs(\.|%2E)json"),
            Fault("cut body", "GET"), Fault("short body", "GET"),
        ]  # fmt: skip
        said = work.run("git", "push", "--porcelain", url, "main").stdout
        assert [line[:1] for line in said.splitlines() if "refs/heads/main" in line] == [" "], said
        other.git("pull", "-q")
        same(work, other)
        assert sum(fault.happened for fault in proxy.faults) >= 5
        commit(work, "three\n")
        proxy.faults = [Fault("503", "PUT", r"refs(\.|%2E)json", count=None)]
        assert sum(line.startswith("fatal: ") for line in fails(work, "push", url, "main").splitlines()) == 1
        proxy.faults = []
        assert work.git("ls-remote", url, "refs/heads/main").split()[0] == tip
        bare = url.replace("container", "no-container").replace("bucket", "no-bucket")
        assert "there is no such bucket" in fails(work, "push", bare, "main")


# names


def test_names_of_branches_that_are_no_text(new_store: NewStore, work: Project, tmp_path: Path) -> None:
    url = new_store("file")
    names = [
        "refs/heads/grün/ß", "refs/heads/日本", "refs/heads/\udcff\udcfe", "refs/heads/it's-\"quoted\"",
        "refs/heads/" + "x" * 240, "refs/heads/" + "/".join(["deep"] * 400), "refs/heads/a$(touch-x)&;|",
        "refs/heads/-f", "refs/heads/%2e%2e", "refs/heads/HEAD", "refs/tags/v1", "refs/notes/commits", "refs/heads/@",
    ]  # fmt: skip
    for name in names:
        work.git("update-ref", name, "HEAD")
    work.git("push", "-q", url, "refs/*:refs/*")
    listed = {line.split("\t", 1)[1] for line in work.git("ls-remote", url, "refs/*").splitlines()}
    assert listed == {*names, "refs/heads/main"}
    mirror = tmp_path / "mirror"
    work.git("clone", "-q", "--mirror", url, str(mirror))
    found = Project(mirror).git("for-each-ref", "--format=%(refname)").splitlines()
    assert set(found) == {*names, "refs/heads/main"}
    for name in names:
        work.git("push", "-q", url, f":{name}")
    assert work.git("ls-remote", url, "refs/*").split("\t")[1] == "refs/heads/main"


def test_a_branch_that_is_named_like_the_directory_of_another(new_store: NewStore, work: Project) -> None:
    url = new_store("file")
    work.git("push", "-q", url, "main", "main:refs/heads/a/b")
    for refused in ("main:refs/heads/a", "main:refs/heads/a/b/c"):
        done = work.run("git", "push", url, refused, check=False)
        assert done.returncode == 1
        assert "named like its directory" in done.stderr
    # in one push, one goes and the other comes
    work.git("push", "-q", url, ":refs/heads/a/b", "main:refs/heads/a")
    listed = work.git("ls-remote", url, "refs/*").split()[1::2]
    assert listed == ["refs/heads/a", "refs/heads/main"]
