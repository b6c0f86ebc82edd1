"""One comment on a pull request, made or brought up to date, on GitHub, Gitea and Forgejo, GitLab or Bitbucket.

APIs: docs.github.com/rest/issues/comments; docs.gitea.com/api, the same paths below /api/v1; docs.gitlab.com/api/notes;
developer.atlassian.com/cloud/bitbucket/rest. The comment is known by the marker in its first line. Anybody can write
that, but forges let nobody change what others wrote.
"""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from gitml.errors import GitmlError, UserError
from gitml.provenance.codec import harmless
from gitml.record import record
from gitml.review.markdown import MARKER

_TIMEOUT = 30
_MOST_PAGES = 100
_LONGEST_ANSWER = 32 << 20


class ForgeError(GitmlError):
    """A forge does not do what it is asked; `status` is that of HTTP, None if there was no answer."""

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


@record
class Place:
    """A pull request: which forge, where its API is, which repository, which number, and the token for it."""

    kind: str
    """'github', 'gitea', 'gitlab' or 'bitbucket'."""
    api: str
    repository: str
    """`owner/name`; the id of the project on GitLab will do too."""
    number: str
    token: str


KINDS = ("github", "gitea", "gitlab", "bitbucket")


def place_of(
    environment: Mapping[str, str], event: Mapping[str, Any], *, kind: str | None = None, api: str | None = None,
    repository: str | None = None, number: str | None = None,
) -> Place:  # fmt: skip
    """The pull request that a CI job is about, from its environment; what is given wins. Raise `UserError`.

    `event` is what stands in the file `GITHUB_EVENT_PATH`.
    """
    kind = kind or kind_of(environment)
    if kind is None:
        raise UserError(
            "this is no CI job of a forge that is known",
            hint=f"--forge {'|'.join(KINDS)} --repository OWNER/NAME --pull N, and the token in GITML_FORGE_TOKEN",
        )
    found = _of_environment(kind, environment, event)
    found.update({key: value for key, value in (("api", api), ("repository", repository), ("number", number)) if value})
    token = environment.get("GITML_FORGE_TOKEN") or found.get("token")
    missing = [
        word
        for word, value in (
            ("the address of its API (--api)", found.get("api")),
            ("a repository (--repository)", found.get("repository")),
            ("a pull request (--pull); does the job run for one?", found.get("number")),
            ("a token (GITML_FORGE_TOKEN)", token),
        )
        if not value
    ]
    if missing:
        raise UserError(f"{kind}: there is no {missing[0].removeprefix('a ').removeprefix('the ')}")
    address = urllib.parse.urlsplit(str(found["api"]))
    if address.scheme != "https" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise UserError(f"'{found['api']}' is not encrypted, and the token would be", hint="use https")
    if not re.fullmatch(r"[\w.~%/-]+", str(found["repository"])) or not str(found["number"]).isdigit():
        raise UserError(f"'{found['repository']}' with '{found['number']}' is no repository and number")
    return Place(kind, str(found["api"]).rstrip("/"), str(found["repository"]), str(found["number"]), str(token))


def kind_of(environment: Mapping[str, str]) -> str | None:
    """The kind of the forge whose CI job this is; None if it is none."""
    if environment.get("GITEA_ACTIONS") == "true" or environment.get("FORGEJO_ACTIONS") == "true":
        return "gitea"
    for name, kind in (("GITHUB_ACTIONS", "github"), ("GITLAB_CI", "gitlab")):
        if environment.get(name) == "true":
            return kind
    return "bitbucket" if environment.get("BITBUCKET_BUILD_NUMBER") else None


def _of_environment(kind: str, environment: Mapping[str, str], event: Mapping[str, Any]) -> dict[str, str | None]:
    get = environment.get
    match kind:
        case "github" | "gitea":
            server = get("GITHUB_SERVER_URL", "").rstrip("/")
            api = get("GITHUB_API_URL") or (f"{server}/api/v1" if kind == "gitea" and server else None)
            pull = event.get("pull_request") or event.get("issue") or {}
            found = event.get("number") or (pull.get("number") if isinstance(pull, Mapping) else None)
            token = get("GITHUB_TOKEN") or get("GITEA_TOKEN")
            return {"api": api or ("https://api.github.com" if kind == "github" else None),
                    "repository": get("GITHUB_REPOSITORY"), "number": str(found) if found else None,
                    "token": token}  # fmt: skip
        case "gitlab":
            return {"api": get("CI_API_V4_URL", "https://gitlab.com/api/v4"), "repository": get("CI_PROJECT_ID"),
                    "number": get("CI_MERGE_REQUEST_IID"), "token": get("GITLAB_TOKEN")}  # fmt: skip
        case "bitbucket":
            return {"api": "https://api.bitbucket.org/2.0", "repository": get("BITBUCKET_REPO_FULL_NAME"),
                    "number": get("BITBUCKET_PR_ID"), "token": get("BITBUCKET_TOKEN")}  # fmt: skip
    raise UserError(f"there is no forge '{kind}'", hint=f"forges: {', '.join(KINDS)}")


def comment(place: Place, text: str) -> tuple[str, bool]:
    """Say `text`, which begins with the marker, on a pull request; give the address of the comment, and if it is new.

    Raise `ForgeError`.
    """
    forge = _Forge(place)
    for found in forge.comments():
        if not forge.text_of(found).lstrip().startswith(MARKER):
            continue
        try:
            return forge.address_of(forge.change(found, text)), False
        except ForgeError as error:
            if error.status not in (403, 404):
                raise
            # somebody else's, with our marker in it
    return forge.address_of(forge.add(text)), True


class _Forge:
    """The requests of one pull request."""

    def __init__(self, place: Place) -> None:
        self._place = place
        base = {
            "github": f"/repos/{place.repository}/issues",
            "gitea": f"/repos/{place.repository}/issues",
            "gitlab": f"/projects/{urllib.parse.quote(place.repository, safe='')}/merge_requests/{place.number}/notes",
            "bitbucket": f"/repositories/{place.repository}/pullrequests/{place.number}/comments",
        }[place.kind]
        self._one = f"{base}/comments" if place.kind in ("github", "gitea") else base
        self._all = f"{base}/{place.number}/comments" if place.kind in ("github", "gitea") else base

    def comments(self) -> Iterator[Mapping[str, Any]]:
        """All comments, page by page."""
        per_page = {"github": "per_page", "gitea": "limit", "gitlab": "per_page", "bitbucket": "pagelen"}[
            self._place.kind
        ]
        for page in range(1, _MOST_PAGES + 1):
            answer = self._ask("GET", f"{self._all}?{per_page}=50&page={page}")
            listed = answer.get("values", []) if isinstance(answer, Mapping) else answer
            if not isinstance(listed, list):
                raise ForgeError(f"{self._place.api} does not answer with comments")
            yield from (each for each in listed if isinstance(each, Mapping))
            # Gitea gives all of them, whatever page is asked for
            if len(listed) < 50 or self._place.kind == "gitea":
                return

    def add(self, text: str) -> Mapping[str, Any]:
        """A new comment."""
        return self._written(self._ask("POST", self._all, self._body(text)))

    def change(self, found: Mapping[str, Any], text: str) -> Mapping[str, Any]:
        """Another text for a comment."""
        verb = "PUT" if self._place.kind in ("gitlab", "bitbucket") else "PATCH"
        return self._written(self._ask(verb, f"{self._one}/{int(found['id'])}", self._body(text)))

    def text_of(self, found: Mapping[str, Any]) -> str:
        """What a comment says."""
        content = found.get("content")
        if self._place.kind == "bitbucket":
            return str(content.get("raw", "")) if isinstance(content, Mapping) and not found.get("deleted") else ""
        return str(found.get("body", ""))

    def address_of(self, found: Mapping[str, Any]) -> str:
        """Where a comment can be read."""
        links = found.get("links")
        if isinstance(links, Mapping) and isinstance(links.get("html"), Mapping):
            return str(links["html"].get("href", ""))
        return str(found.get("html_url") or f"note {found.get('id')} on !{self._place.number}")

    def _body(self, text: str) -> Mapping[str, Any]:
        return {"content": {"raw": text}} if self._place.kind == "bitbucket" else {"body": text}

    def _written(self, answer: Any) -> Mapping[str, Any]:
        if not isinstance(answer, Mapping) or "id" not in answer:
            raise ForgeError(f"{self._place.api} does not say what became of the comment")
        return answer

    def _ask(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        headers = {"Accept": "application/json", "User-Agent": "gitml"}
        if self._place.kind == "gitlab":
            headers["PRIVATE-TOKEN"] = self._place.token
        else:
            headers["Authorization"] = f"{'token' if self._place.kind == 'gitea' else 'Bearer'} {self._place.token}"
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self._place.api + path, data, headers, method=verb)  # noqa: S310 - see place_of
        try:
            with _OPENER.open(request, timeout=_TIMEOUT) as answer:
                return json.loads(answer.read(_LONGEST_ANSWER))
        except urllib.error.HTTPError as error:
            said = error.read(2000).decode("utf-8", "replace")
            raise ForgeError(
                f"{verb} {self._place.api}{path}: {error.code} {harmless(_message(said) or error.reason)}",
                hint=_HINTS.get(error.code),
                status=error.code,
            ) from None
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise ForgeError(f"{verb} {self._place.api}{path}: {harmless(str(reason))}") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token goes to nobody else."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
_HINTS = {
    401: "is the token right, and does it belong to this forge?",
    403: "the token may not write comments; on GitHub: permissions: pull-requests: write",
    404: "is it the right repository and number, and may the token see it?",
    422: "the comment may be too long: git ml diff --md --max-chars N",
}


def _message(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return ""
    found = value.get("message") or value.get("error") if isinstance(value, dict) else None
    return str(found)[:300] if found else ""
