"""Which sandbox a stage runs in: the host's, its image under bubblewrap, or a container.

The specification decides (`Transform.source`), this machine only by which program: an image in an archive is unpacked
and run under bubblewrap, one without goes to the engine that has it or else to the first that works. What a name means
may change without the specification, so a run says which image it was, and how to pin it.
"""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gitml.errors import UserError
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.pipeline.bubblewrap import BubblewrapError
from gitml.pipeline.container import ENGINES, Apptainer, Container, Engine, apptainer_image
from gitml.pipeline.contents import content_of
from gitml.pipeline.imageroot import ImageRoot
from gitml.pipeline.imagestore import UNPACK_LIMIT, ImageStore, Unpacked
from gitml.pipeline.process import Stop
from gitml.pipeline.sandbox import Sandbox, sandbox_of
from gitml.pipeline.spec.model import ImageSource, Stage
from gitml.pipeline.unpack import ImageError
from gitml.store.tree import Entry, Snapshot


class Sandboxes:
    """The sandboxes of one run, each made when a stage first wants it. Close it at the end."""

    def __init__(self, repo: Repository, odb: GitOdb, *, stop: Stop | None = None) -> None:
        self._repo = repo
        self._odb = odb
        self._stop = stop
        self._made: dict[tuple[tuple[str, ImageSource] | None, str], Sandbox] = {}
        self.images: dict[str, dict[str, str]] = {}
        """Of stages with an image: by which program they ran (`by`), and which image that was (`digest`)."""
        self.notices: dict[str, None] = {}
        """Sentences for the user, each once, in order."""

    @property
    def name(self) -> str | None:
        """What run records say: the names of all that were used; None if none was."""
        return ", ".join(sorted({each.name for each in self._made.values()})) or None

    def of(self, stage: Stage, snapshot: Snapshot) -> Sandbox:
        """The sandbox of a stage at a tree; raise `UserError` if it cannot run here."""
        name, source = stage.transform.image, stage.transform.source
        asked = (name, source) if name is not None and source is not None else None
        user = stage.transform.user
        sandbox = self._made.get((asked, user))
        if sandbox is None:
            sandbox = sandbox_of(self._repo, user) if asked is None else self._image(*asked, snapshot, user)
            self._made[asked, user] = sandbox
            if sandbox.notice:
                self.notices[sandbox.notice] = None
            if user and sandbox.name != "bwrap":
                self.notices[f"commands run as you, not as user '{user}': only bubblewrap can change that"] = None
        if asked is not None:
            self.images[stage.name] = {"by": sandbox.name, **({"digest": sandbox.digest} if sandbox.digest else {})}
        return sandbox

    def close(self) -> None:
        """Leave nothing behind."""
        for sandbox in self._made.values():
            sandbox.close()

    def _image(self, name: str, source: ImageSource, snapshot: Snapshot, user: str) -> Sandbox:
        network = self._repo.config_bool("ml.network", False)
        if source.path is None and source.file is None:
            return self._container(name, source.digest, network=network)
        if self._repo.config("ml.sandbox") in {"none", "landlock"}:
            raise ImageError(
                f"the image '{name}' runs under bubblewrap, which 'ml.sandbox' forbids",
                hint="git config ml.sandbox auto",
            )
        try:
            return ImageRoot(self._unpacked(name, source, snapshot), network=network, user=user)
        except BubblewrapError:
            raise
        except ImageError as error:
            where = source.file or (source.path or b"").decode("utf-8", "replace")
            raise ImageError(f"image '{name}' in '{where}': {error.message}", hint=error.hint) from None

    def _unpacked(self, name: str, source: ImageSource, snapshot: Snapshot) -> Unpacked:
        stop = self._stop
        store = ImageStore(
            self._repo.state_dir / "images",
            limit=self._repo.config_int("ml.imageLimit", UNPACK_LIMIT),
            stopped=(lambda: False) if stop is None else stop.is_set,
        )
        if source.path is None:
            file = Path(source.file or "")
            unpacked = store.get(_mark(file), name, source.digest, lambda _: contextlib.nullcontext(file))
            if source.digest is None:
                self._say_pin(name, unpacked.image.digest)
            return unpacked
        entry = snapshot.get(source.path)
        assert entry is not None  # the specification was read from this tree

        @contextmanager
        def placed(directory: Path) -> Iterator[Path]:
            yield self._place(entry, snapshot, directory / "archive")

        return store.get(source.content, name, source.digest, placed)

    def _place(self, entry: Entry, snapshot: Snapshot, where: Path) -> Path:
        """Write an archive of the repository to disk."""
        if not entry.is_tree:
            with where.open("wb") as file, content_of(entry.oid, self._odb) as found:
                file.writelines(found.pieces)
            return where
        where.mkdir()
        for path, inner in Snapshot(self._odb, entry.oid).walk():
            if inner.is_file:
                target = where / path.decode("utf-8", "surrogateescape")
                target.parent.mkdir(parents=True, exist_ok=True)
                self._place(inner, snapshot, target)
        return where

    def _container(self, name: str, digest: str | None, *, network: bool) -> Sandbox:
        engine = choose_engine(self._repo.config("ml.container") or "auto", name)
        if engine.name == "apptainer":
            image = name if digest is None or "@" in name else f"{name.partition('@')[0]}@{digest}"
            file = apptainer_image(engine, image, self._repo.state_dir / "images", self._stop)
            if digest is None:
                self._say_pin(name, None)
            return Apptainer(engine, file, network=network)
        container = Container(engine, name, digest, network=network, stop=self._stop)
        if digest is None:
            self._say_pin(name, container.pin)
        return container

    def _say_pin(self, name: str, digest: str | None) -> None:
        """Without a digest nobody notices when the name gets another meaning."""
        how = f'; to pin this one, put "digest": "{digest}" into its entry in "images"' if digest is not None else ""
        self.notices[f"another image under the name '{name}' would run nothing again{how}"] = None


def choose_engine(setting: str, image: str) -> Engine:
    """The container engine for an image: the one set, or one that has it, or the first that works.

    Raise `UserError` if there is none, or for an unknown `setting`.
    """
    if setting not in {"auto", *ENGINES}:
        raise UserError(f"unknown container engine '{setting}'", hint=f"ml.container is auto, {', '.join(ENGINES)}")
    names = ENGINES if setting == "auto" else (setting,)
    faults: list[str] = []
    working: list[Engine] = []
    for engine in (Engine.find(name) for name in names):
        if engine is None:
            continue
        fault = engine.fault()
        if fault is None:
            working.append(engine)
        else:
            faults.append(f"{engine.name}: {fault}")
    if not working:
        among = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
        raise ImageError(
            f"no container engine for the image '{image}'" + (f" ({'; '.join(faults)})" if faults else ""),
            hint=f'install {among}; or say in "images" of pipeline.json what stands for it: an archive of it, '
            'or {"code": {"/code": "path"}, "working_dir": "/code"} to run on the host',
        )
    if len(working) > 1:
        for engine in working:
            if engine.name != "apptainer" and engine.inspect(image) is not None:
                return engine
    return working[0]


def _mark(file: Path) -> str:
    """What tells one state of a file or directory from another; raise `ImageError` if it is not there."""
    try:
        found = (file / "index.json").stat() if file.is_dir() else file.stat()
    except OSError as error:
        raise ImageError(f"cannot read it: {error.strerror or error}") from None
    return f"{file}\n{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
