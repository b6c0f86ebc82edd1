"""The commands of care as they are typed, in a project with its hooks."""

import os
import shutil
import threading
import time
from pathlib import Path

from gitml.errors import ExitCode

from .project import Project, prepared, small_project
from .test_storage import noise

ODD = os.fsdecode(b"data/new\nline \xff")


@prepared
def project(tmp_path: Path) -> Project:
    """A project that is set up, with one commit of data."""
    made = Project(tmp_path / "p")
    made.path.mkdir()
    made.git("init", "-q", "-b", "main")
    made.ml("install")
    made.write(".gitattributes", "data/** filter=ml -text\n")
    made.write("data/a", noise(1, 500_000))
    made.write(ODD, noise(2))
    made.commit(wait=False, GIT_COMMITTER_DATE="2001-01-01T00:00:00Z")
    return made


def drop_a_branch(project: Project) -> None:
    project.git("switch", "-q", "-c", "side")
    project.write("data/side", noise(3, 300_000))
    project.commit(wait=False)
    project.git("switch", "-q", "main")
    project.git("branch", "-q", "-D", "side")
    project.git("reflog", "expire", "--expire=now", "--all")
    (project.path / ".git/ORIG_HEAD").unlink(missing_ok=True)


def test_check_prune_take_back_and_free(project: Project) -> None:
    drop_a_branch(project)
    assert project.json("info")["reclaimable"] >= 300_000
    planned = project.json("prune", "--dry-run")
    assert [version["path"] for version in planned["versions"]] == ["data/side"]
    assert "data/side" in project.ml("prune").stdout
    assert project.json("prune", "--undo")["schema"] == "gitml/prune-undo/1"
    said = project.ml("prune", "--expire=now")
    assert "data/side" in said.stdout
    assert "git ml gc -- --prune=now" in said.stderr
    assert project.ml("prune").stderr == "nothing to drop\n"
    project.ml("gc", "--", "--prune=now")
    found = project.json("info", "data")
    assert found["reclaimable"] == 0
    assert {path["path"] for path in found["paths"]} == {"data/a", "data/new\nline \udcff"}
    assert found["total"]["logical"] == 700_000
    checked = project.json("fsck", "--deep")
    assert (checked["contents"], checked["faults"], checked["packs"]) == (2, [], [])
    assert project.ml("fsck", check=False).returncode == ExitCode.OK
    assert project.is_clean()


def test_a_large_pack_stays_until_what_it_holds_is_garbage(project: Project) -> None:
    assert project.git("config", "gc.bigPackThreshold") == "512m"
    project.git("config", "gc.bigPackThreshold", "900k")
    project.write("data/large", noise(4, 1_000_000))
    project.commit(wait=False)
    (large,) = large_packs(project)
    content = (large.stat().st_ino, large.stat().st_mtime_ns)
    project.git("gc", "-q")
    project.ml("gc")
    assert (large.stat().st_ino, large.stat().st_mtime_ns) == content
    project.git("rm", "-q", "--cached", "data/large")
    project.git("commit", "-q", "--amend", "--allow-empty", "-m", "Without it")
    project.git("reflog", "expire", "--expire=now", "--all")
    (project.path / ".git/ORIG_HEAD").unlink(missing_ok=True)
    project.ml("prune", "--expire=now")
    project.git("gc", "-q", "--prune=now")
    assert large_packs(project) == [large]
    project.ml("gc", "--", "--prune=now")
    assert large_packs(project) == []
    assert project.json("fsck", "--deep")["faults"] == []


def test_a_little_garbage_in_a_large_pack_is_told(project: Project) -> None:
    project.git("config", "gc.bigPackThreshold", "900k")
    project.write("data/a few", noise(6, 70_000))
    project.write("data/large", noise(5, 3_000_000))
    project.commit(wait=False)
    project.git("rm", "-q", "--cached", "data/a few")
    project.git("commit", "-q", "--amend", "-m", "Without it")
    project.git("reflog", "expire", "--expire=now", "--all")
    (project.path / ".git/ORIG_HEAD").unlink(missing_ok=True)
    project.ml("prune", "--expire=now")
    packs = large_packs(project)
    said = project.ml("gc", "--", "--prune=now").stderr
    assert "that nothing needs stay in packs of" in said
    assert "git -c gc.bigPackThreshold=0 gc" in said
    assert large_packs(project) == packs
    project.git("-c", "gc.bigPackThreshold=0", "gc", "-q", "--prune=now")
    assert "nothing needs" not in project.ml("gc").stderr


def large_packs(project: Project) -> list[Path]:
    return [path for path in (project.path / ".git/objects/pack").glob("*.pack") if path.stat().st_size > 900_000]


def test_damage_is_named_repaired_and_ends_with_its_code(project: Project) -> None:
    project.git("gc", "-q")
    (pack,) = (project.path / ".git/objects/pack").glob("*.pack")
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    done = project.ml("fsck", "--deep", check=False)
    assert done.returncode == ExitCode.VERIFICATION_FAILED
    assert "corrupt" in done.stdout
    assert pack.name in done.stdout
    assert "hint: git ml fsck --deep --repair\n" in done.stderr
    (project.path / "data").rename(project.path / "away")  # where good copies are
    said = project.run("git", "checkout", "-q", "--", "data").stderr
    assert "hint: look for good copies: git ml fsck --deep --repair" in said, said
    assert "git ml fsck --deep --repair" in project.ml("checkout", check=False).stderr
    shutil.rmtree(project.path / "data")
    (project.path / "away").rename(project.path / "data")
    repaired = project.json("fsck", "--deep", "--repair")
    assert repaired["faults"] == []
    assert repaired["repaired"]["moved"] != []
    project.git("fsck")


def test_only_these_paths_and_revisions(project: Project) -> None:
    project.write("data/b", noise(5))
    project.commit(wait=False)
    assert project.json("fsck", "HEAD~1")["contents"] == 2
    assert project.json("fsck", "HEAD~1..HEAD")["contents"] == 1
    assert project.run("git", "ml", "fsck", "--json", "--", "data/b").stdout.count('"contents": 1') == 1
    below = Project(project.path / "data")
    assert below.json("info", "b")["total"]["versions"] == 1
    assert project.ml("fsck", "--", "..", check=False).returncode == ExitCode.FATAL


def test_old_versions_only_at_the_remote_and_every_byte_for_others(project: Project, tmp_path: Path) -> None:
    server = tmp_path / "s.git"
    project.git("init", "-q", "--bare", str(server))
    project.git("-C", str(server), "config", "uploadpack.allowFilter", "true")
    project.git("remote", "add", "origin", f"file://{server}")
    project.write("data/a", noise(9, 500_000))
    project.commit(wait=False)
    project.git("push", "-q", "-u", "origin", "main")
    drop_a_branch(project)
    left = project.json("prune", "--keep-recent=3", "--verify-remote=origin", "--expire=now")["left"]
    assert (left["remote"], left["bytes"]) == ("origin", 500_000)
    assert [version["path"] for version in left["versions"]] == ["data/a"]
    project.git("gc", "-q", "--prune=now")
    checked = project.json("fsck", "--deep")
    assert (checked["elsewhere"], checked["faults"]) == (1, [])
    # a push from here, and a clone elsewhere: the same bytes
    project.write("data/new", noise(10, 1_200_000))
    project.commit(wait=False)
    project.git("push", "-q", "origin", "main")
    other = Project(tmp_path / "other")
    project.git("clone", "-q", f"file://{server}", str(other.path))
    other.ml("install")
    for name in ("data/a", "data/new", ODD):
        assert (other.path / name).read_bytes() == (project.path / name).read_bytes(), name
    for place in (other, project):
        place.git("switch", "-q", "--detach", "HEAD~2")
        assert (place.path / "data/a").read_bytes() == noise(1, 500_000)
    checked = project.json("fsck", "--deep")
    assert (checked["elsewhere"], checked["faults"], checked["packs"]) == (0, [], [])
    project.git("fsck")
    # and the remote let go of what nobody needs, in its own time
    project.git("switch", "-q", "main")
    assert project.json("prune", "--remote=origin")["versions"] == []


def test_gc_clears_what_runs_and_kills_left(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p")
    project.commit()
    state = project.path / ".git/ml"
    (state / "repair-4194304-abcd").mkdir()
    (state / "landing/4194304-abcd").mkdir(parents=True)
    project.git("update-ref", "refs/ml/incoming/4194304-abcd/heads/main", "HEAD")
    (state / "committing").write_text("4194304")
    for number in range(25):
        (state / f"runs/old{number}").mkdir(parents=True)
    # the runner has said that it is done, and may be at work for a moment still: what runs left stays until then
    end = time.monotonic() + 10
    while len(planned := project.json("gc", "--dry-run")["removed"]) < 8:
        assert time.monotonic() < end, planned
        time.sleep(0.05)
    removed = project.json("gc")["removed"]
    assert sorted(removed) == sorted(planned)
    assert not (state / "repair-4194304-abcd").exists()
    assert not (state / "landing/4194304-abcd").exists()
    assert project.git("for-each-ref", "refs/ml/incoming") == ""
    assert len(list((state / "runs").iterdir())) == 20
    assert project.states() == {"model": "fresh", "inference": "fresh"}


def test_options_that_do_not_go_together(project: Project) -> None:
    for arguments in (["--remote=o", "--undo"], ["--verify-remote=o"], ["--expire=rubbish-date?"], ["--undo"]):
        done = project.ml("prune", *arguments, check=False)
        assert done.returncode == ExitCode.FATAL, arguments
        assert done.stderr.startswith("error: ")


def test_prune_and_gc_beside_add_commit_and_push(project: Project, tmp_path: Path) -> None:
    server = tmp_path / "s.git"
    project.git("init", "-q", "--bare", str(server))
    project.git("remote", "add", "origin", str(server))
    drop_a_branch(project)
    done = threading.Event()
    failures: list[str] = []

    def clear_away() -> None:
        while not done.is_set():
            for arguments in (["prune", "--expire=now"], ["gc", "--", "--quiet", "--prune=2.weeks.ago"]):
                ended = project.ml(*arguments, check=False)
                if ended.returncode not in (ExitCode.OK, ExitCode.BUSY):
                    failures.append(ended.stderr)

    clearing = threading.Thread(target=clear_away)
    clearing.start()
    try:
        for number in range(2):
            project.write("data/a", noise(number, 200_000))
            project.write("data/again", noise(number % 2))
            project.commit(wait=False)
            project.git("push", "-q", "--force", "origin", "HEAD")
            if number % 2:
                project.git("reset", "-q", "--soft", "HEAD~1")
                project.git("reflog", "expire", "--expire=now", "--all")
    finally:
        done.set()
        clearing.join()
    assert failures == []
    for place in (project, Project(server)):
        checked = place.json("fsck", "--deep")
        assert (checked["faults"], checked["packs"]) == ([], [])
        place.git("fsck")
