"""Whole histories of plain git: everything stays what it was, but for the form in which large files are kept."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gitml.errors import UserError
from gitml.git.commits import parse_commit
from gitml.git.odb import GitOdb
from gitml.git.refs import list_refs
from gitml.git.repository import Repository
from gitml.migrate import journal
from gitml.migrate.engine import check_engine
from gitml.migrate.selection import Choice
from gitml.oid import ObjectFormat, Oid
from gitml.store.pointer import is_pointer
from tests.conftest import run_git
from tests.migrate.histories import (
    EVERYTHING,
    Files,
    History,
    files_of,
    noise,
    refs,
    run,
    set_up,
    status,
    text,
    trees_of,
)

ODD = b'odd "n\xe4me"\\ with\nall .bin'


def tangle(path: Path) -> None:
    """Merges, an octopus, a second root, renames, modes, links, odd names, nested attributes, notes, tags."""
    history = History()
    first = history.commit("main", b"plain\n", {b"README": b"hello\n"})
    attributes: Files = {
        b".gitattributes": b"*.txt text\r\n*.c text\r\n",
        b"sub/.gitattributes": b"raw.bin -filter\n",
        b"a.bin": noise(1),
        b"sub/raw.bin": noise(2),
        b"sub/b.bin": (0o100755, noise(3)),
        b"small.bin": b"small",
        b"link.bin": (0o120000, b"a.bin"),
        b"module": (0o160000, b"1" * 40),
        ODD: noise(4),
    }
    second = history.commit("main", b"data", attributes, [first])
    left = history.commit("left", b"rename", {b"a.bin": None, b"moved/a.bin": noise(1)}, [second])
    right = history.commit("right", b"change", {b"a.bin": noise(5), b".gitattributes": b"*.txt text"}, [second])
    third = history.commit("third", b"table", {b"t.bin": text(1)}, [second])
    octopus = history.commit("main", b"octopus\n\nof three", {b"t.bin": text(1)}, [second, left, right, third])
    empty = history.commit("main", b"empty", {}, [octopus])
    other = history.root("other", b"second root", {b"sub/c.bin": noise(1)})
    join = history.commit("main", b"join", {b"sub/c.bin": noise(1), b"t.bin": text(2)}, [empty, other])
    last = history.commit("main", b"no attributes", {b".gitattributes": None}, [join])
    history.tag("annotated", octopus, b"a tag\n")
    history.ref("refs/tags/light", second)
    history.ref("refs/tags/before", first)
    history.ref("refs/remotes/origin/main", second)
    history.ref("refs/heads/follows", join)
    history.write(path)
    assert last


@pytest.fixture
def tangled(repo: Path) -> Path:
    tangle(repo)
    set_up(repo)
    run_git(repo, "notes", "add", "-m", "seen", "main~1")
    return repo


def all_commits(repo: Repository) -> list[Oid]:
    return [Oid.parse(line) for line in repo.git.lines("rev-list", "--topo-order", "--reverse", "--branches", "--tags")]


def test_everything_is_rewritten_and_nothing_is_lost(tangled: Path) -> None:
    repo = Repository.discover(tangled)
    before, commits = refs(repo), all_commits(repo)
    with GitOdb(repo.git, repo.format) as odb:
        originals = {oid: (parse_commit(odb.read(oid)[1]), files_of(repo, odb, oid)) for oid in commits}

    outcome = run(tangled, choice=EVERYTHING, include=("*.bin",))

    mapping = outcome.object_map
    assert outcome.commits == len(commits) - 1, "the first commit has no such file and keeps its id"
    with GitOdb(repo.git, repo.format) as odb:
        for old_id, (old, old_files) in originals.items():
            new_id = mapping.get(old_id, old_id)
            new, new_files = parse_commit(odb.read(new_id)[1]), files_of(repo, odb, new_id)
            assert new.parents == tuple(mapping.get(parent, parent) for parent in old.parents)
            assert (new.author, new.committer, new.message) == (old.author, old.committer, old.message)
            assert {path for path in {*old_files, *new_files} if old_files.get(path, (0,))[0] != 0} == {
                *old_files,
                *([b".gitattributes"] if b".gitattributes" in new_files and b".gitattributes" in old_files else []),
            }
            for path, file in old_files.items():
                if path != b".gitattributes":
                    assert (new_files[path].mode, new_files[path].content) == (file.mode, file.content)
                    stored = odb.read(new_files[path].oid)[1] if file.mode != 0o160000 else b""
                    large = len(file.content) >= 65536 and path != b"sub/raw.bin"
                    assert is_pointer(stored) is (large and path.endswith(b".bin")), path
    after = refs(repo)
    assert after["refs/remotes/origin/main"] == before["refs/remotes/origin/main"]
    assert after["refs/tags/before"] == before["refs/tags/before"]
    for name in ("main", "left", "right", "third", "other", "follows"):
        assert after[f"refs/heads/{name}"] == mapping[Oid.parse(before[f"refs/heads/{name}"])].hex()
    assert repo.git.line("cat-file", "-t", "annotated") == "tag"
    assert repo.resolve("annotated^{commit}") == mapping[Oid.parse(_peeled(repo, before["refs/tags/annotated"]))]
    assert repo.git.line("notes", "show", "main~1") == "seen"
    assert "refs/ml/migrate" not in "".join(after)
    assert repo.git.run("fsck", "--strict", "--connectivity-only").returncode == 0
    assert status(tangled) == ""


def _peeled(repo: Repository, oid: str) -> str:
    return repo.git.line("rev-parse", f"{oid}^{{commit}}")


def test_old_versions_check_out_exactly_and_clean(tangled: Path) -> None:
    run(tangled, choice=EVERYTHING, include=("*.bin",))
    run_git(tangled, "checkout", "-q", "annotated")
    assert (tangled / "t.bin").read_bytes() == text(1)
    assert (tangled / "sub/raw.bin").read_bytes() == noise(2)
    assert status(tangled) == ""
    run_git(tangled, "checkout", "-q", "right")
    assert (tangled / "a.bin").read_bytes() == noise(5)
    assert status(tangled) == ""


def test_data_commits_hold_every_version(tangled: Path) -> None:
    run(tangled, choice=EVERYTHING, include=("*.bin",))
    repo = Repository.discover(tangled)
    for name in list_refs(repo.git, "refs/ml/migrate-backup", "refs/remotes"):
        run_git(tangled, "update-ref", "-d", name)
    run_git(tangled, "reflog", "expire", "--expire=now", "--all")
    run_git(tangled, "gc", "-q", "--prune=now")
    with GitOdb(repo.git, repo.format) as odb:
        for commit in all_commits(repo):
            files_of(repo, odb, commit)  # reads and verifies all contents
    assert repo.git.run("fsck", "--strict").stderr == b""


def test_plain_gc_finds_deltas_between_versions(repo: Path) -> None:
    history = History()
    parents: list[int] = []
    rows = text(7, 30_000).splitlines(keepends=True)
    for version in range(12):
        rows[version * 2000] = b"changed\n"
        parents = [history.commit("main", b"version", {b"t.csv": b"".join(rows)}, parents)]
    history.write(repo)
    set_up(repo)
    outcome = run(repo, choice=Choice(("main",)), include=("*.csv",))
    for name in list_refs(Repository.discover(repo).git, "refs/ml/migrate-backup"):
        run_git(repo, "update-ref", "-d", name)
    run_git(repo, "reflog", "expire", "--expire=now", "--all")
    run_git(repo, "gc", "-q", "--prune=now")
    size = sum(path.stat().st_size for path in (repo / ".git/objects/pack").glob("*.pack"))
    assert outcome.size > 12 * 200_000
    assert size < 0.1 * outcome.size


def test_an_export_gives_the_trees_that_were_imported(tangled: Path) -> None:
    repo = Repository.discover(tangled)
    commits = all_commits(repo)
    originals = trees_of(repo.git, commits)
    imported = run(tangled, choice=EVERYTHING, include=("*.bin", "sub/**"))
    exported = run(tangled, to="git", choice=EVERYTHING)
    there = [imported.object_map.get(oid, oid) for oid in commits]
    back = [exported.object_map.get(oid, oid) for oid in there]
    assert trees_of(repo.git, there) != originals
    assert trees_of(repo.git, back) == originals
    assert status(tangled) == ""


def test_undo_brings_everything_back(tangled: Path) -> None:
    repo = Repository.discover(tangled)
    before = refs(repo)
    outcome = run(tangled, choice=EVERYTHING, include=("*.bin",))
    assert refs(repo) != before
    with GitOdb(repo.git, repo.format) as odb:
        journal.undo(repo, odb, outcome.stamp, lose_later=False)
    after = refs(repo)
    assert {name: after[name] for name in before if "notes" not in name} == {
        name: oid for name, oid in before.items() if "notes" not in name
    }
    assert status(tangled) == ""
    assert (tangled / "t.bin").read_bytes() == text(2)
    assert not list_refs(repo.git, "refs/ml/migrate-backup")


def test_refs_that_a_stopped_machine_left_half_way_are_finished(tangled: Path) -> None:
    repo = Repository.discover(tangled)
    before = refs(repo)
    outcome = run(tangled, choice=EVERYTHING, include=("*.bin",))
    after = refs(repo)
    moves = [[name, before[name], after[name]] for name in outcome.refs]
    backup = f"refs/ml/migrate-backup/{outcome.stamp}/heads/left"
    run_git(tangled, "update-ref", "-d", backup)
    for name in ("refs/heads/main", "refs/heads/left"):
        run_git(tangled, "update-ref", name, before[name])
    run_git(tangled, "reset", "-q", "--hard")
    (tangled / ".git/refs/heads/left.lock").touch()
    intent = {"moves": moves, "more": [[backup, before["refs/heads/left"], ""]]}
    (tangled / ".git/ml/migrating.json").write_text(json.dumps(intent))
    assert run(tangled, choice=EVERYTHING, include=("*.bin",)).stamp is None
    assert refs(repo) == after
    assert repo.resolve(backup).hex() == before["refs/heads/left"]
    assert status(tangled) == ""
    assert not (tangled / ".git/ml/migrating.json").exists()


def test_undo_does_not_lose_what_came_later(tangled: Path) -> None:
    repo = Repository.discover(tangled)
    old = repo.resolve("main")
    run(tangled, choice=Choice(("main",)), include=("*.bin",))
    run_git(tangled, "commit", "-q", "--allow-empty", "-m", "later")
    with GitOdb(repo.git, repo.format) as odb:
        with pytest.raises(UserError, match="'refs/heads/main' has moved since"):
            journal.undo(repo, odb, None, lose_later=False)
        journal.undo(repo, odb, None, lose_later=True)
    assert repo.resolve("main") == old


def test_commits_that_a_remote_has_stay_unless_asked_for(tangled: Path) -> None:
    repo = Repository.discover(tangled)
    light, third = repo.resolve("light"), repo.resolve("third")
    outcome = run(tangled, choice=Choice(("main",)), include=("*.bin",))
    assert repo.resolve("light") == light, "origin has it"
    assert repo.resolve("third") != third, "main reaches it"
    assert light not in outcome.object_map
    outcome = run(tangled, choice=Choice(include=("main",)), include=("*.bin",))
    assert repo.resolve("light") != light
    assert light in outcome.object_map


def test_refs_are_left_out_by_name(tangled: Path) -> None:
    repo = Repository.discover(tangled)
    octopus = repo.resolve("annotated^{commit}")
    outcome = run(tangled, choice=Choice(include=("main",), exclude=("annotated",)), include=("*.bin",))
    assert repo.resolve("annotated^{commit}") == octopus
    assert 0 < outcome.commits < 5
    with pytest.raises(UserError, match="'nowhere' is not a branch"):
        run(tangled, choice=Choice(("nowhere",)), include=("*.bin",))


def test_files_above_a_size_are_chosen_in_all_their_versions(repo: Path) -> None:
    history = History()
    first = history.commit("main", b"small", {b"grows[1].bin": noise(1, 80_000), b"stays.bin": noise(2, 80_000)})
    history.commit("main", b"large", {b"grows[1].bin": noise(3, 120_000)}, [first])
    history.write(repo)
    here = set_up(repo)
    run(repo, choice=Choice(("main",)), above=100_000)
    with GitOdb(here.git, here.format) as odb:
        for revision in ("main", "main~1"):
            files = files_of(here, odb, revision)
            assert is_pointer(odb.read(files[b"grows[1].bin"].oid)[1])
            assert not is_pointer(odb.read(files[b"stays.bin"].oid)[1])
    assert status(repo) == ""


def test_what_attributes_ask_for_already_is_done(repo: Path) -> None:
    history = History()
    first = history.commit("main", b"plain", {b"a.bin": noise(1)})
    history.commit("main", b"tracked, and stored whole", {b".gitattributes": b"*.bin filter=ml -text\n"}, [first])
    history.write(repo)
    here = set_up(repo)
    # git may say already that the file is not what is committed
    outcome = run(repo, choice=Choice(("main",)), dirty_is_fine=True)
    assert status(repo) == ""
    assert outcome.commits == 1
    with GitOdb(here.git, here.format) as odb:
        assert is_pointer(odb.read(files_of(here, odb, "main")[b"a.bin"].oid)[1])


def test_excluded_files_stay_plain(repo: Path) -> None:
    History().commit("main", b"none", {})
    history = History()
    history.commit("main", b"data", {b"a.bin": noise(1), b"raw/b.bin": noise(2)})
    history.write(repo)
    here = set_up(repo)
    run(repo, choice=Choice(("main",)), include=("*.bin",), exclude=("raw/**",))
    with GitOdb(here.git, here.format) as odb:
        files = files_of(here, odb, "main")
        assert is_pointer(odb.read(files[b"a.bin"].oid)[1])
        assert not is_pointer(odb.read(files[b"raw/b.bin"].oid)[1])
    assert status(repo) == ""


def test_messages_speak_of_the_new_commits(repo: Path) -> None:
    history = History()
    first = history.commit("main", b"one", {b"a.bin": noise(1)})
    history.write(repo)
    old = run_git(repo, "rev-parse", "main")
    history.commit("main", b"two\n\nGitml-Source: %s\n" % old.encode(), {b"b": b"b"}, [first])
    history.write(repo)
    set_up(repo)
    outcome = run(repo, choice=Choice(("main",)), include=("*.bin",))
    assert run_git(repo, "log", "-1", "--format=%B").strip().endswith(outcome.object_map[Oid.parse(old)].hex())


def test_signatures_that_are_lost_are_counted(repo: Path) -> None:
    history = History()
    first = history.commit("main", b"one", {b"a.bin": noise(1)})
    history.tag("signed", first, b"v1\n-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n")
    history.write(repo)
    raw = run_git(repo, "cat-file", "commit", "main")
    signed = raw.replace("\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n", 1)
    oid = run_git(repo, "hash-object", "-t", "commit", "-w", "--stdin", stdin=signed.encode())
    run_git(repo, "update-ref", "refs/heads/main", oid)
    set_up(repo)
    outcome = run(repo, choice=EVERYTHING, include=("*.bin",))
    assert outcome.signatures == 2
    assert "SIGNATURE" not in run_git(repo, "cat-file", "commit", "main") + run_git(repo, "cat-file", "tag", "signed")


def test_a_second_migration_has_nothing_to_do(tangled: Path) -> None:
    assert run(tangled, choice=EVERYTHING, include=("*.bin",)).stamp is not None
    kept = refs(Repository.discover(tangled))
    assert run(tangled, choice=EVERYTHING, include=("*.bin",)).stamp is None
    assert refs(Repository.discover(tangled)) == kept


def test_a_bare_repository_is_rewritten(tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    run_git(tmp_path, "init", "-q", "--bare", str(bare))
    tangle(bare)
    outcome = run(bare, choice=EVERYTHING, include=("*.bin",))
    assert outcome.commits > 5
    repo = Repository.discover(bare)
    with GitOdb(repo.git, repo.format) as odb:
        assert files_of(repo, odb, "main")[b"t.bin"].content == text(2)


def test_worktrees_and_a_detached_head_follow(tangled: Path, tmp_path: Path) -> None:
    run_git(tangled, "worktree", "add", "-q", str(tmp_path / "linked"), "third")
    run_git(tangled, "checkout", "-q", "--detach", "left")
    outcome = run(tangled, choice=EVERYTHING, include=("*.bin",))
    repo = Repository.discover(tangled)
    assert repo.resolve("HEAD") == repo.resolve("left")
    assert "HEAD" in outcome.refs
    assert status(tangled) == status(tmp_path / "linked") == ""
    assert (tmp_path / "linked/t.bin").read_bytes() == text(1)


def test_changes_in_a_worktree_stop_a_migration_or_stay(tangled: Path) -> None:
    (tangled / "README").write_text("edited\n")
    (tangled / "t.bin").write_bytes(noise(9))
    (tangled / "new").write_text("staged\n")
    run_git(tangled, "add", "new")
    before = refs(Repository.discover(tangled))
    with pytest.raises(UserError, match="has changes that are not committed"):
        run(tangled, choice=Choice(("main",)), include=("*.bin",))
    assert refs(Repository.discover(tangled)) == before
    run(tangled, choice=Choice(("main",)), include=("*.bin",), dirty_is_fine=True)
    assert (tangled / "t.bin").read_bytes() == noise(9)
    assert status(tangled).splitlines() == [" M README", "A  new", " M t.bin"]


def test_a_merge_under_way_stops_a_migration(tangled: Path) -> None:
    run_git(tangled, "merge", "-q", "--no-commit", "--no-ff", "-s", "ours", "before", "--allow-unrelated-histories")
    (tangled / ".git/MERGE_HEAD").write_text(run_git(tangled, "rev-parse", "left") + "\n")
    with pytest.raises(UserError, match="a merge is under way"):
        run(tangled, choice=Choice(("main",)), include=("*.bin",), dirty_is_fine=True)


def test_a_shallow_clone_is_refused(tangled: Path, tmp_path: Path) -> None:
    run_git(tmp_path, "clone", "-q", "--depth=1", f"file://{tangled}", "shallow")
    with pytest.raises(UserError, match="shallow"):
        run(tmp_path / "shallow", choice=EVERYTHING, include=("*.bin",))


def test_without_its_engine_history_is_refused(tangled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "git_filter_repo", None)
    with pytest.raises(UserError, match="needs git-filter-repo") as caught:
        run(tangled, choice=EVERYTHING, include=("*.bin",))
    assert caught.value.hint == "pip install 'gitml[migrate]'"
    with pytest.raises(UserError, match="SHA-256"):
        check_engine(ObjectFormat.SHA256)


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_one_commit_leaves_history_alone(tmp_path: Path, object_format: str) -> None:
    where = tmp_path / "r"
    run_git(tmp_path, "init", "-q", f"--object-format={object_format}", str(where))
    history = History()
    history.commit("main", b"data", {b"a.bin": noise(1), b"b.txt": b"b"})
    history.write(where)
    repo = set_up(where)
    old, tree = repo.resolve("main"), repo.resolve("main^{tree}")
    run(where, include=("*.bin",))
    assert repo.resolve("main~1") == old
    with GitOdb(repo.git, repo.format) as odb:
        file = files_of(repo, odb, "main")[b"a.bin"]
        assert is_pointer(odb.read(file.oid)[1])
        assert file.content == noise(1)
    assert status(where) == ""
    run(where, to="git")
    assert repo.resolve("main^{tree}") == tree
    assert status(where) == ""


def test_records_of_stages_are_named(repo: Path) -> None:
    record = (
        b'{\n "code": [],\n "datums": {\n  "recovered": 0,\n  "total": 1\n },\n "inputs": [\n  {\n   "glob": "/",\n   '
        b'"mode": "040000",\n   "name": "training",\n   "oid": "%s",\n   "path": "training"\n  }\n ],\n "key": "%s",\n '
        b'"output": {\n  "path": "model",\n  "tree": "%s"\n },\n "params": {},\n "schema": "gitml/record/1",\n '
        b'"spec": {},\n "stage": "model"\n}\n'
    ) % (b"1" * 40, b"2" * 64, b"3" * 40)
    history = History()
    first = history.commit("main", b"run", {b"training/a.csv": text(1), b".gitml/records/model.json": record})
    history.commit("main", b"more", {b"other": b"x"}, [first])
    history.write(repo)
    set_up(repo)
    assert run(repo, choice=Choice(("main",)), include=("*.csv",)).records == {"model": 2}


def test_a_file_that_changes_in_a_migration_is_not_in_two_minds(tangled: Path) -> None:
    """Another process moves a ref meanwhile: nothing is changed."""
    repo = Repository.discover(tangled)
    moved = False

    def interfere(phase: str, *_: int) -> None:
        nonlocal moved
        if phase == "contents" and not moved:
            moved = True
            subprocess.run(["git", "update-ref", "refs/heads/left", "main"], cwd=tangled, check=True)

    from gitml.git.refs import RefMovedError
    from gitml.migrate.migration import Request, migrate

    before = refs(repo)
    request = Request(imports=True, kind="git", choice=EVERYTHING, include=("*.bin",), message="m")
    with pytest.raises(RefMovedError):
        migrate(repo, request, interfere)
    assert refs(repo) == {**before, "refs/heads/left": before["refs/heads/main"]}
    assert not list_refs(repo.git, "refs/ml/migrate-backup")
    assert not (tangled / ".git/ml/migrate").exists()
    assert status(tangled) == ""
