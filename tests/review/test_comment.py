"""`git ml comment` against servers that answer as the forges do (there is none of them to be started here)."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitml.review.markdown import MARKER
from tests.end_to_end.project import Project

TOKEN = "token-1"
_GITLAB = r"/api/v4/projects/12/merge_requests/7/notes"
_BITBUCKET = r"/2.0/repositories/o/r/pullrequests/7/comments"
PATHS = {
    "github": (r"/repos/o/r/issues/7/comments", r"/repos/o/r/issues/comments/(\d+)", "PATCH"),
    "gitea": (r"/api/v1/repos/o/r/issues/7/comments", r"/api/v1/repos/o/r/issues/comments/(\d+)", "PATCH"),
    "gitlab": (_GITLAB, rf"{_GITLAB}/(\d+)", "PUT"),
    "bitbucket": (_BITBUCKET, rf"{_BITBUCKET}/(\d+)", "PUT"),
}


class Forge(ThreadingHTTPServer):
    """A forge with one pull request."""

    def __init__(self, kind: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.kind = kind
        self.comments: dict[int, str] = {}
        self.foreign: set[int] = set()
        self.requests: list[str] = []
        self.broken = 0
        self.elsewhere = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def said(self, number: int) -> dict[str, Any]:
        text = self.comments[number]
        if self.kind == "bitbucket":
            links = {"html": {"href": f"https://forge.example/{number}"}}
            return {"id": number, "content": {"raw": text}, "links": links}
        return {"id": number, "body": text, "html_url": f"https://forge.example/{number}"}


class Handler(BaseHTTPRequestHandler):
    server: Forge

    def log_message(self, *_: object) -> None: ...

    def answer(self, status: int, value: Any, **headers: str) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, each in headers.items():
            self.send_header(name, each)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def serve(self) -> None:
        forge = self.server
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"null")
        forge.requests.append(f"{self.command} {self.path}")
        given = self.headers.get("PRIVATE-TOKEN") or self.headers.get("Authorization", "").split(" ")[-1]
        path, _, query = self.path.partition("?")
        every, one, verb = PATHS[forge.kind]
        if forge.elsewhere:
            return self.answer(302, {}, Location=forge.elsewhere)
        if given != TOKEN:
            return self.answer(401, {"message": "Bad credentials"})
        if forge.broken:
            return self.answer(forge.broken, {"message": "body is too long\x1b[31m"})
        if path == every and self.command == "GET":
            page = int((re.search(r"\bpage=(\d+)", query) or ["", "1"])[1])
            listed = [forge.said(number) for number in sorted(forge.comments)]
            part = listed if forge.kind == "gitea" else listed[50 * (page - 1) : 50 * page]
            return self.answer(200, {"values": part} if forge.kind == "bitbucket" else part)
        found = re.fullmatch(one, path)
        text = str(body["content"]["raw"] if body and "content" in body else (body or {}).get("body"))
        if path == every and self.command == "POST":
            number = max(forge.comments, default=0) + 1
            forge.comments[number] = text
            return self.answer(201, forge.said(number))
        if found and self.command == verb:
            number = int(found[1])
            if number in forge.foreign:
                return self.answer(403, {"message": "not yours"})
            forge.comments[number] = text
            return self.answer(200, forge.said(number))
        return self.answer(404, {"message": "Not Found"})

    do_GET = do_POST = do_PATCH = do_PUT = serve  # noqa: N815


@pytest.fixture(params=sorted(PATHS))
def forge(request: pytest.FixtureRequest) -> Iterator[Forge]:
    server = Forge(request.param)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def job(forge: Forge, top: Path) -> dict[str, str]:
    """What a job of the forge has in its environment."""
    event = top / "event.json"
    event.write_text(json.dumps({"number": 7, "pull_request": {"number": 7}}))
    none = dict.fromkeys(("GITHUB_ACTIONS", "GITLAB_CI", "GITEA_ACTIONS", "BITBUCKET_BUILD_NUMBER"), "")
    match forge.kind:
        case "github":
            return none | {"GITHUB_ACTIONS": "true", "GITHUB_API_URL": forge.url, "GITHUB_REPOSITORY": "o/r",
                           "GITHUB_EVENT_PATH": str(event), "GITHUB_TOKEN": TOKEN}  # fmt: skip
        case "gitea":
            return none | {"GITHUB_ACTIONS": "true", "GITEA_ACTIONS": "true", "GITHUB_SERVER_URL": forge.url,
                           "GITHUB_REPOSITORY": "o/r", "GITHUB_EVENT_PATH": str(event),
                           "GITEA_TOKEN": TOKEN}  # fmt: skip
        case "gitlab":
            return none | {"GITLAB_CI": "true", "CI_API_V4_URL": f"{forge.url}/api/v4", "CI_PROJECT_ID": "12",
                           "CI_MERGE_REQUEST_IID": "7", "GITLAB_TOKEN": TOKEN}  # fmt: skip
    return none | {"BITBUCKET_BUILD_NUMBER": "3", "BITBUCKET_REPO_FULL_NAME": "o/r", "BITBUCKET_PR_ID": "7",
                   "BITBUCKET_TOKEN": TOKEN}  # fmt: skip


def say(forge: Forge, top: Path, text: str, *arguments: str, check: bool = True, **extra: str) -> Any:
    project = Project(top)
    api = ["--api", f"{forge.url}/2.0"] if forge.kind == "bitbucket" else []
    command = ["git", "ml", "comment", *api, *arguments]
    return project.run(*command, stdin=text.encode(), extra={**job(forge, top), **extra}, check=check)


def test_one_comment_that_is_kept_up_to_date(forge: Forge, tmp_path: Path) -> None:
    forge.comments = {number: f"talk {number}" for number in range(1, 61)}
    forge.comments[3] = f"quoting {MARKER} is no report"
    done = say(forge, tmp_path, f"{MARKER} 1..2 -->\n## one\n")
    assert forge.comments[61] == f"{MARKER} 1..2 -->\n## one\n"
    assert done.stdout == "commented: https://forge.example/61\n"
    done = say(forge, tmp_path, f"{MARKER} 1..3 -->\n## two\n", "--json")
    assert forge.comments[61] == f"{MARKER} 1..3 -->\n## two\n"
    assert len(forge.comments) == 61
    assert json.loads(done.stdout) == {"schema": "gitml/comment/1", "url": "https://forge.example/61", "new": False}


def test_what_somebody_else_wrote_stays(forge: Forge, tmp_path: Path) -> None:
    forge.comments = {1: f"{MARKER} fake -->"}
    forge.foreign = {1}
    say(forge, tmp_path, f"{MARKER} 1..2 -->")
    assert forge.comments == {1: f"{MARKER} fake -->", 2: f"{MARKER} 1..2 -->"}
    say(forge, tmp_path, f"{MARKER} 1..3 -->")
    assert forge.comments[2] == f"{MARKER} 1..3 -->"


def test_a_wrong_token(forge: Forge, tmp_path: Path) -> None:
    done = say(forge, tmp_path, f"{MARKER} -->", check=False, GITML_FORGE_TOKEN="wrong")
    assert done.returncode == 128
    assert "401 Bad credentials" in done.stderr
    assert "wrong" not in done.stderr
    assert forge.comments == {}


def test_a_forge_that_refuses(forge: Forge, tmp_path: Path) -> None:
    forge.broken = 422
    done = say(forge, tmp_path, f"{MARKER} -->", check=False)
    assert done.returncode == 128
    assert "422 body is too long" in done.stderr
    assert "--max-chars" in done.stderr
    assert "\x1b[31m" not in done.stderr.replace("\x1b[31merror:", "")


def test_a_token_goes_to_nobody_else(forge: Forge, tmp_path: Path) -> None:
    other = Forge(forge.kind)
    thread = threading.Thread(target=other.serve_forever)
    thread.start()
    try:
        forge.elsewhere = f"{other.url}/"
        assert say(forge, tmp_path, f"{MARKER} -->", check=False).returncode == 128
        assert other.requests == []
    finally:
        other.shutdown()
        thread.join()
        other.server_close()


def test_what_is_no_report(forge: Forge, tmp_path: Path) -> None:
    done = say(forge, tmp_path, "hello", check=False)
    assert "this is no report" in done.stderr
    assert forge.requests == []


GIVEN = ["--forge", "github", "--repository", "o/r", "--pull", "1"]
NO_ADDRESS = ["--forge", "gitea", "--repository", "o/r", "--pull", "1"]


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        ({}, [], "this is no CI job of a forge that is known"),
        ({"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "o/r", "GITHUB_TOKEN": "x"}, [], "no pull request"),
        ({"GITLAB_CI": "true", "CI_PROJECT_ID": "1", "CI_MERGE_REQUEST_IID": "1"}, [], "no token"),
        ({"GITHUB_TOKEN": "x"}, NO_ADDRESS, "address of its API"),
        ({"GITHUB_TOKEN": "x"}, ["--forge", "sourcehut"], "there is no forge 'sourcehut'"),
        ({"GITHUB_TOKEN": "x"}, [*GIVEN, "--api", "http://example.org"], "is not encrypted"),
        ({"GITHUB_TOKEN": "x"}, [*GIVEN, "--repository", "o/r?x"], "is no repository"),
    ],
)
def test_what_is_missing(environment: dict[str, str], arguments: list[str], message: str, tmp_path: Path) -> None:
    names = (
        "GITHUB_ACTIONS", "GITLAB_CI", "GITEA_ACTIONS", "BITBUCKET_BUILD_NUMBER", "GITHUB_TOKEN", "GITML_FORGE_TOKEN",
        "GITHUB_EVENT_PATH", "GITHUB_REPOSITORY", "GITHUB_SERVER_URL", "GITHUB_API_URL", "GITLAB_TOKEN",
    )  # fmt: skip
    extra = dict.fromkeys(names, "") | environment
    done = Project(tmp_path).run("git", "ml", "comment", *arguments, stdin=MARKER.encode(), extra=extra, check=False)
    assert done.returncode == 128
    assert message in done.stderr


TEMPLATES = Path(__file__).parents[2] / "templates" / "ci"


def scripts(name: str) -> list[str]:
    """What a workflow of the templates executes, in order."""
    document = yaml.safe_load((TEMPLATES / f"{name}.yml").read_text())
    if name == "gitlab":
        return list(document["gitml"]["script"])
    return [step["run"] for step in document["jobs"]["review"]["steps"] if "run" in step]


@pytest.mark.parametrize("name", ["github", "gitea", "gitlab"])
def test_the_templates_execute_nothing_of_a_pull_request(name: str) -> None:
    path = TEMPLATES / f"{name}.yml"
    document = yaml.safe_load(path.read_text())
    if name != "gitlab":
        steps = document["jobs"]["review"]["steps"]
        # the base is checked out, never the head
        assert all("ref" not in step.get("with", {}) for step in steps)
    commands = scripts(name)
    # what others choose, such as branch names, is never part of a script; variables may hold it
    assert not [each for each in commands if re.search(r"\$\{\{\s*github\.(head_ref|event\.pull_request)", each)]
    assert all("$FORK" not in command.replace('"$FORK"', "") for command in commands), "quoted"
    known = ("pip install 'gitml[data]'", "git fetch ", "git ml diff ", "git ml comment", "cat report.md", "if [ -n ")
    assert all(command.startswith(known) for command in commands)
    assert any("--gate" in command for command in commands)


@pytest.fixture
def pull_request(tmp_path: Path) -> Path:
    """A bare repository with a branch that breaks a gate, and the ref that forges make of a pull request."""
    project = Project(tmp_path / "theirs")
    project.path.mkdir()
    project.git("init", "-q", "-b", "main")
    project.ml("install")
    project.ml("track", "*.csv")
    metrics = [{"path": "m.json", "name": "accuracy", "goal": "max", "gate": {"min": 0.9}}]
    stage = {
        "pipeline": {"name": "model"},
        "transform": {"cmd": ["sh", "-c", "cp pfs/made/m.json pfs/out/"]},
        "input": {"pfs": {"repo": "made", "glob": "/"}},
    }
    project.write("pipeline.json", json.dumps({**stage, "metrics": metrics}))
    for branch, accuracy in (("main", 0.95), ("change", 0.85)):
        if branch != "main":
            project.git("switch", "-q", "-c", branch)
        project.write("made/m.json", json.dumps({"accuracy": accuracy}))
        rows = "".join(f"{row},{accuracy if row == 7 else row}\n" for row in range(9000))
        project.write("made/rows.csv", f"id,value\n{rows}")
        project.commit(f"accuracy {accuracy}")
    server = tmp_path / "server.git"
    project.git("init", "-q", "--bare", str(server))
    project.git("remote", "add", "origin", str(server))
    project.git("push", "-q", "origin", "main", "change")
    project.git("--git-dir", str(server), "update-ref", "refs/pull/7/head", "change")
    return server


@pytest.mark.parametrize("forge", ["github", "gitea", "gitlab"], indirect=True)
def test_the_templates_report_and_hold_a_pull_request(forge: Forge, pull_request: Path, tmp_path: Path) -> None:
    project = Project(tmp_path / "job")
    project.path.mkdir()
    project.git("clone", "-q", "-b", "main", pull_request.as_uri(), ".")
    head = project.head("origin/change")
    environment = {
        **job(forge, tmp_path), "GITHUB_BASE_REF": "main", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "CI_COMMIT_SHA": head,
    }  # fmt: skip
    if forge.kind != "gitlab":
        # what is of the pull request comes by its own ref, as it does from a fork
        project.git("update-ref", "-d", "refs/remotes/origin/change")
    commands = [each.replace("${{ github.event.number }}", "7") for each in scripts(forge.kind)[1:]]
    *steps, gate = commands
    for command in steps:
        project.run("bash", "-e", "-o", "pipefail", "-c", command, extra=environment)
    refused = project.run("bash", "-e", "-c", gate, extra=environment, check=False)
    assert (refused.returncode, "gate broken: accuracy ≥ 0.9" in refused.stdout) == (1, True)
    (comment,) = forge.comments.values()
    assert "gate broken: accuracy ≥ 0.9" in comment
    assert "rows: 1 changed" in comment, "the content of large files came too"
    assert comment.strip() == project.read("report.md").strip()
    if forge.kind == "gitlab":
        assert 'failures="1"' in project.read("gates.xml")
        assert 'gitml_metric{stage="model",name="accuracy"} 0.85' in project.read("metrics.txt")
    # what was checked out is the base, and its large file still the pointer
    assert json.loads(project.read("made/m.json")) == {"accuracy": 0.95}
    assert project.read("made/rows.csv").startswith("gitml pointer 1")
