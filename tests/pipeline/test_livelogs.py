"""Following the logs of a run: files while they are there, then the run cache."""

from pathlib import Path

from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.pipeline.cache import RunCache, run_path
from gitml.pipeline.livelogs import LiveLogs, Piece, note_task


def test_what_is_printed_comes_once_from_wherever_it_is(repo: Path, tmp_path: Path) -> None:
    logs = tmp_path / "run" / "log"
    logs.mkdir(parents=True)
    place = Repository.discover(repo)
    with GitOdb(place.git, place.format) as odb:
        cache, writer = RunCache(place, odb), RunCache(place, odb)
        live = LiveLogs(tmp_path / "run", "r1", cache)
        assert list(live.more()) == []
        log = logs / "aa.log"
        note_task(log, "model", "in/x\udcff")
        log.write_bytes(b"one\n")
        assert list(live.more()) == [Piece("aa", "model", "in/x\udcff", b"one\n")]
        assert list(live.more()) == []
        with log.open("ab") as file:
            file.write(b"tw")
        (piece,) = live.more()
        assert piece.data == b"tw"
        # the stage ends: its files go, also that of a task that was never seen
        with writer.update("ends") as batch:
            batch.put_blob(run_path("r1") + b"/log/aa", b"one\ntwo\n")
            batch.put_blob(run_path("r1") + b"/log/bb", b"quick\n")
            batch.put_json(run_path("r1") + b"/task/bb.json", {"stage": "model", "datum": "in/y"})
        log.unlink()
        assert [piece.data for piece in live.more()] == [b"o\n"]
        assert list(live.more(ended=True)) == [Piece("bb", "model", "in/y", b"quick\n")]
        assert list(live.more(ended=True)) == []


def test_a_task_that_begins_anew_is_read_from_its_beginning(repo: Path, tmp_path: Path) -> None:
    log = tmp_path / "log" / "aa.log"
    log.parent.mkdir()
    log.write_bytes(b"first attempt\n")
    place = Repository.discover(repo)
    with GitOdb(place.git, place.format) as odb:
        live = LiveLogs(tmp_path, "r1", RunCache(place, odb))
        assert list(live.more()) == []  # nobody has said yet whose it is
        note_task(log, "model", "in")
        assert [piece.data for piece in live.more()] == [b"first attempt\n"]
        log.write_bytes(b"again\n")
        assert [piece.data for piece in live.more()] == [b"again\n"]
