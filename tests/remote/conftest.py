"""Stores of every kind for the tests of the remote helper; servers run once for all tests of a process."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.project import Project
from tests.google import serve_google
from tests.remote.worlds import LARGE, Files, World, build
from tests.stores import (
    CREDENTIALS,
    address,
    make_bucket,
    make_container,
    serve_azurite,
    serve_moto,
    serve_rclone,
)

NewStore = Callable[[str], str]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    with serve_moto() as endpoint:
        make_bucket(endpoint, "bucket")
        yield endpoint


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    top = tmp_path_factory.mktemp("rclone")
    (top / "bucket").mkdir()
    with serve_rclone(top) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def google(moto: str) -> Iterator[str]:
    with serve_google(moto) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def azure() -> Iterator[str]:
    with serve_azurite() as endpoint:
        make_container(endpoint, "container")
        yield endpoint


@pytest.fixture
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> NewStore:
    """Gives the address of a new store of a kind (`tests.stores.KINDS`)."""

    def new(kind: str) -> str:
        name = secrets.token_hex(6)
        if kind == "file":
            return f"ml::file://{tmp_path}/store-{name}"
        endpoint = request.getfixturevalue(kind)
        if kind == "azure":
            return f"ml::az://container/{name}?endpoint={endpoint}"
        if kind == "google":
            return f"ml::gs://bucket/{name}?endpoint={endpoint}"
        return address(endpoint, "bucket", name, "&single_writer=true" if kind == "rclone" else "")

    return new


@pytest.fixture
def work(tmp_path: Path) -> Project:
    """A repository with one commit."""
    path = tmp_path / "work"
    path.mkdir()
    project = Project(path)
    project.git("init", "-q")
    project.write("file", "one\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "one")
    return project


def commit(project: Project, text: str, name: str = "file") -> str:
    """One more commit; gives its oid."""
    project.write(name, text)
    project.git("add", "-A")
    project.git("commit", "-q", "-m", text.strip() or "change")
    return project.head()


def clone(url: str, path: Path, *options: str) -> Project:
    """A clone of a store."""
    here = Project(path.parent)
    here.git("clone", "-q", *options, url, str(path))
    return Project(path)


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives where a world of a kind is, `small` or `large`; each is built once."""
    made: dict[str, Path] = {}

    def original(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            build(made[kind], 6000 if kind == "small" else LARGE)
        return made[kind]

    return original


@pytest.fixture(params=["small", "large"])
def world(request: pytest.FixtureRequest, originals: Callable[[str], Path], tmp_path: Path) -> World:
    original = originals(request.param)
    top = tmp_path / "world"
    shutil.copytree(original, top)
    reader, work = Project(top / "reader"), Project(top / "work")
    for project in (reader, work):
        # what is kept of a store here is kept by its address
        shutil.rmtree(project.path / ".git" / "ml", ignore_errors=True)
    url = f"ml::file://{top}/store"
    reader.git("remote", "set-url", "origin", url)
    newest = max((top / "store/packs").glob("*.index"), key=lambda path: path.stat().st_mtime_ns)
    return World(Files(top / "store", newest.stem), work, reader)
