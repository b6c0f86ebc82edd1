"""Where a forge shows a committed file, so that who may read the repository sees an image of it, and nobody else.

Forms: GitHub's `blob/<commit>/<path>?raw=true`, which unlike raw.githubusercontent.com also works in private
repositories; GitLab's `-/raw/<commit>/<path>`; Gitea's and Forgejo's `raw/commit/<commit>/<path>`; Bitbucket's
`raw/<commit>/<path>`.
"""

import re
from collections.abc import Callable
from urllib.parse import quote, urlsplit

_HOSTS = {
    "github": "github", "gitlab": "gitlab", "gitea": "gitea", "forgejo": "gitea", "codeberg": "gitea",
    "bitbucket": "bitbucket",
}  # fmt: skip
"""A word in the name of a host, and what kind of forge that is."""
_FORMS = {
    "github": "{base}/blob/{commit}/{path}?raw=true",
    "gitlab": "{base}/-/raw/{commit}/{path}",
    "gitea": "{base}/raw/commit/{commit}/{path}",
    "bitbucket": "{base}/raw/{commit}/{path}",
}
_SCP = re.compile(r"(?:[^@/:]+@)?([A-Za-z0-9.-]+):(?!/)(.+)")
"""`git@host:owner/name.git`."""
_PART = re.compile(r"[A-Za-z0-9._~-]+")


def addresses(remote: str, kind: str | None = None) -> Callable[[str, bytes], str] | None:
    """What gives the address of a file by commit and path; None if `remote` is on no forge that is known.

    `kind` is that of the forge, one of `forge.KINDS`, where it does not show in the name of its host.
    """
    base = _base(remote)
    known = None if base is None else _kind(base, kind)
    if known is None:
        return None

    def address(commit: str, path: bytes) -> str:
        return _FORMS[known].format(base=base, commit=commit, path=quote(path))

    return address


def shows_svg(remote: str, kind: str | None = None) -> bool:
    """Whether the forge of `remote` gives SVG files a type with which browsers show them as images.

    GitHub, GitLab, Gitea and Forgejo do, as an image can do nothing. Of Bitbucket that is not known.
    """
    base = _base(remote)
    return base is not None and _kind(base, kind) in ("github", "gitlab", "gitea")


def _kind(base: str, kind: str | None) -> str | None:
    host = urlsplit(base).hostname or ""
    return kind or next((each for word, each in _HOSTS.items() if word in host), None)


def _base(remote: str) -> str | None:
    """Where the repository of a remote is for a browser, without any credentials that stand in the remote."""
    scp = _SCP.fullmatch(remote)
    if scp is not None:
        host, path = scp[1], scp[2]
    else:
        try:
            parts = urlsplit(remote)
            if parts.scheme not in ("https", "http", "ssh") or parts.hostname is None:
                return None
            # the port of ssh is not that of the pages
            port = f":{parts.port}" if parts.port is not None and parts.scheme != "ssh" else ""
        except ValueError:
            return None
        host, path = f"{parts.hostname}{port}", parts.path
    names = path.strip("/").removesuffix(".git").split("/")
    if len(names) < 2 or not all(_PART.fullmatch(name) for name in names):
        return None
    scheme = "http" if remote.startswith("http:") else "https"
    return f"{scheme}://{host}/{'/'.join(names)}"
