"""Situations with more than one repository: merges elsewhere, submodules, shallow clones, two who compute the same."""

from pathlib import Path

from tests.end_to_end.project import Project


def test_row_10_outputs_that_a_forge_blended_are_found(project: Project, tmp_path: Path) -> None:
    project.git("switch", "-q", "-c", "topic")
    project.write("input/x.csv", "other x\n")
    project.commit("other x")
    project.git("switch", "-q", "main")
    project.write("input/y.csv", "other y\n")
    project.commit("other y")
    project.git("clone", "-q", str(project.path), str(tmp_path / "forge"))
    forge = Project(tmp_path / "forge")  # where nobody installed gitml
    forge.git("merge", "-q", "-X", "ours", "--no-edit", "origin/topic")
    assert forge.read("inference/x.csv") == "other x\n2\n"
    assert forge.read("inference/y.csv") == "other y\n2\n"
    project.git("fetch", "-q", str(forge.path), "main:merged", GITML="0")
    project.git("switch", "-q", "merged")
    done = project.ml("verify", check=False)
    assert done.returncode == 6
    assert "blended" in done.stdout
    project.ml("run")
    assert project.ml("verify").returncode == 0


def test_row_16_a_submodule_runs_for_itself_and_leaves_its_parent_alone(project: Project, tmp_path: Path) -> None:
    parent = Project(tmp_path / "parent")
    parent.path.mkdir()
    parent.git("init", "-q")
    parent.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(project.path), "part")
    parent.git("commit", "-q", "-m", "with a part")
    tip = parent.head()
    part = Project(parent.path / "part")
    part.ml("install")
    part.write("training/b.csv", "3\n")
    part.commit("more")
    assert part.subjects()[:2] == ["gitml: update model, inference", "more"]
    assert part.read("model/model.txt") == "1\n2\n3\n"
    assert part.is_clean()
    assert parent.head() == tip
    assert parent.git("status", "--porcelain") == " M part"


def test_row_17_a_shallow_clone_is_judged_by_its_tree(project: Project, tmp_path: Path) -> None:
    project.git("clone", "-q", "--depth", "1", f"file://{project.path}", str(tmp_path / "shallow"))
    shallow = Project(tmp_path / "shallow")
    shallow.ml("install")
    assert shallow.states() == {"model": "fresh", "inference": "fresh"}
    shallow.write("input/x.csv", "new x\n")
    shallow.commit("new x")
    assert shallow.subjects()[:2] == ["gitml: update inference", "new x"]
    assert shallow.read("inference/x.csv") == "new x\n2\n"


def test_row_17_a_sparse_and_partial_clone_runs_on_what_it_did_not_check_out(project: Project, tmp_path: Path) -> None:
    project.git("config", "uploadpack.allowFilter", "true")
    url = f"file://{project.path}"
    project.git("clone", "-q", "--filter=blob:none", "--sparse", url, str(tmp_path / "sparse"))
    sparse = Project(tmp_path / "sparse")
    sparse.git("sparse-checkout", "set", "input")
    sparse.ml("install")
    files = sorted(path.name for path in sparse.path.iterdir())
    assert not {"training", "model", "inference"} & set(files)
    assert sparse.states() == {"model": "fresh", "inference": "fresh"}
    sparse.write("input/x.csv", "new x\n")
    sparse.write("input/z.csv", "new file\n")
    sparse.commit("new x")
    assert sparse.subjects()[:2] == ["gitml: update inference", "new x"]
    assert sparse.git("show", "HEAD:inference/x.csv") == "new x\n2"
    assert sparse.git("show", "HEAD:inference/y.csv") == "y\n2"
    assert sparse.git("show", "HEAD:inference/z.csv") == "new file\n2"
    assert sorted(path.name for path in sparse.path.iterdir()) == files, "what is not wanted here does not appear"
    assert sparse.is_clean()


def test_row_21_results_are_signed_or_wait(project: Project) -> None:
    project.git("config", "ml.sign", "always")
    project.git("config", "gpg.format", "ssh")
    project.git("config", "user.signingKey", str(project.path / "no-such-key.pub"))
    project.write("training/b.csv", "3\n")
    project.commit("more")
    assert project.subjects()[0] == "more"
    said = project.ml("run", check=False).stderr
    assert "cannot be signed" in said
    assert "publish --sign" in said
    key = project.path.parent / "key"
    project.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    project.git("config", "user.signingKey", f"{key}.pub")
    project.git("config", "ml.committer", "Bot <bot@example.org>")
    project.ml("publish")
    assert "-----BEGIN SSH SIGNATURE-----" in project.git("cat-file", "commit", "HEAD")
    assert project.git("log", "-1", "--format=%cn <%ce>") == "Bot <bot@example.org>"
    assert set(project.states().values()) == {"fresh"}
    # one that nobody could sign is signed when a person is there to type the passphrase
    project.run("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(key))
    project.git("config", "ml.sign", "auto")
    project.write("training/b.csv", "3\n4\n")
    project.commit("even more")
    tree, parent = project.head("HEAD^{tree}"), project.head("HEAD~1")
    assert project.subjects()[0] == "gitml: update model, inference"
    assert "SIGNATURE" not in project.git("cat-file", "commit", "HEAD")
    ask = project.path.parent / "ask"
    ask.write_text("#!/bin/sh\necho secret\n")
    ask.chmod(0o755)
    person = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
    assert "results committed as" in project.run("git", "ml", "publish", "--sign", extra=person).stdout
    assert "-----BEGIN SSH SIGNATURE-----" in project.git("cat-file", "commit", "HEAD")
    assert (project.head("HEAD^{tree}"), project.head("HEAD~1")) == (tree, parent)
    assert project.is_clean()
    assert "nothing to commit" in project.run("git", "ml", "publish", "--sign", extra=person).stdout


def test_row_24_line_endings_of_windows_do_not_pass_for_changes(project: Project) -> None:
    project.git("config", "core.autocrlf", "true")
    project.write("training/a.csv", "1\r\n2\r\n3\r\n")
    project.ml("track", "large.bin")
    content = b"\r\n\n" * 30_000
    project.write("large.bin", content)
    project.commit("more")
    assert set(project.states().values()) == {"fresh"}
    for name in ("model/model.txt", "large.bin"):
        (project.path / name).unlink()
    project.git("checkout", "-q", ".")
    assert (project.path / "model/model.txt").read_bytes() == b"1\r\n2\r\n3\r\n"
    assert (project.path / "large.bin").read_bytes() == content
    before = project.executions()
    project.git("commit", "-q", "--allow-empty", "-m", "nothing")
    project.wait()
    assert project.executions() == before, "what git changes on the way out is no change of an input"
    project.write("training/a.csv", "1\r\n")
    project.commit("less")
    # outputs follow where git has put them with other line endings: that is no edit of the user's
    assert (project.path / "model/model.txt").read_text().split() == ["1"]
    assert project.git("cat-file", "-p", "HEAD:model/model.txt") == "1"
    assert project.is_clean()
    assert set(project.states().values()) == {"fresh"}


def test_row_27_29_two_clones_that_compute_the_same_have_one_commit(project: Project, tmp_path: Path) -> None:
    project.write("training/b.csv", "3\n")
    project.commit("more", GITML="0")
    project.git("clone", "-q", str(project.path), str(tmp_path / "twin"))
    twin = Project(tmp_path / "twin")
    twin.ml("install")
    for each in (project, twin):
        each.ml("run")
        assert each.subjects()[:2] == ["gitml: update model, inference", "more"]
        assert each.ml("run").returncode == 0
        assert each.subjects()[1] == "more", "a result commit leads to no other"
    assert project.head() == twin.head()
    twin.git("pull", "-q", "--ff-only")


def test_runs_of_others_come_from_a_remote_that_was_added_later(project: Project, tmp_path: Path) -> None:
    project.git("init", "-q", "--bare", str(tmp_path / "server.git"))
    project.git("remote", "add", "origin", str(tmp_path / "server.git"))
    project.git("push", "-q", "-u", "origin", "main")
    project.git("push", "-q", str(tmp_path / "server.git"), "main")  # no remote, nothing to set up
    project.git("clone", "-q", str(tmp_path / "server.git"), str(tmp_path / "colleague"))
    colleague = Project(tmp_path / "colleague")
    colleague.ml("install")
    colleague.write("input/w.csv", "w\n")
    colleague.commit("w")
    colleague.git("push", "-q")
    run = colleague.json("show", "inference/w.csv")["run"]["run"]
    project.git("pull", "-q")
    assert project.json("show", "inference/w.csv")["run"]["run"] == run
    project.git("push", "-q")
    ours = project.git("config", "--get-all", "remote.origin.fetch").splitlines()
    assert ours == ["+refs/heads/*:refs/remotes/origin/*", "+refs/ml/runs*:refs/ml/remotes/origin/runs*"]
