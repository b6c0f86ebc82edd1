"""Whose result commits are, and their signatures, made where nobody can type a passphrase.

Git signs with what the user set up for `git commit -S` (`gpg.format`, `user.signingKey`). A runner has no terminal, so
a key that wants one fails here at once, and what then happens is the user's choice.
"""

import os
from enum import StrEnum

from gitml.errors import GitmlError, UserError
from gitml.git.commits import Commit, Signature, parse_commit, parse_signature
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.record import replace

COMMITTER = (b"gitml", b"gitml@localhost")


class Signing(StrEnum):
    """Which result commits are signed."""

    NEVER = "never"
    AUTO = "auto"
    """Those that can be, without a terminal."""
    ALWAYS = "always"
    """All: results wait where they cannot be."""


class SigningError(GitmlError):
    """A commit could not be signed."""


def committer_of(repo: Repository) -> tuple[bytes, bytes]:
    """Name and address of the committer of results, `ml.committer` or gitml itself; raise `UserError`."""
    text = repo.config("ml.committer")
    if text is None:
        return COMMITTER
    try:
        who = parse_signature(os.fsencode(text))
        if not who.name or who.name.strip(b"<>\n") != who.name or b"@" not in who.email or b"\n" in who.email:
            raise ValueError(text)
    except ValueError:
        raise UserError(
            f"ml.committer is '{text}'", hint="it has the form: git config ml.committer 'Name <name@example.org>'"
        ) from None
    return who.name, who.email


def signed(repo: Repository, commit: Commit, *, asking: bool = False) -> Commit:
    """The commit, signed if `ml.sign` asks for it; with `asking` in any case, and a passphrase may be asked for.

    Raise `SigningError` if it cannot be signed and must be, `UserError` if `ml.sign` is none of its values.
    """
    text = repo.config("ml.sign") or Signing.NEVER
    try:
        signing = Signing(text.lower())
    except ValueError:
        raise UserError(f"ml.sign is '{text}'", hint=f"it is one of: {', '.join(Signing)}") from None
    if asking:
        signing = Signing.ALWAYS
    if signing is Signing.NEVER:
        return commit
    done = repo.git.run(
        "-c", "i18n.commitEncoding=UTF-8", "commit-tree", "-S", commit.tree.hex(),
        *(part for parent in commit.parents for part in ("-p", parent.hex())),
        input=commit.message, check=False, apart=not asking,
        env={
            **_person("AUTHOR", commit.author), **_person("COMMITTER", commit.committer),
            **({} if asking else _NOBODY_THERE),
        },
    )  # fmt: skip
    if done.returncode:
        if signing is Signing.AUTO:
            return commit
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["git commit-tree -S failed"]
        raise SigningError(f"the result commit cannot be signed: {lines[0].removeprefix('error: ')}")
    made = parse_commit(repo.git.output("cat-file", "commit", Oid.parse(done.stdout.strip()).hex()))
    signatures = tuple(header for header in made.extra if header[0].startswith(b"gpgsig"))
    same = replace(made, extra=commit.extra) == commit
    if not signatures or not same:
        raise SigningError("the result commit cannot be signed: git changed it")
    return made


_NOBODY_THERE = {"GPG_TTY": "", "SSH_ASKPASS_REQUIRE": "never", "SSH_ASKPASS": "", "DISPLAY": "", "LC_ALL": "C"}
"""Keeps programs that sign from asking; in a session of its own there is no terminal either."""


def _person(role: str, who: Signature) -> dict[str, str]:
    return {
        f"GIT_{role}_NAME": os.fsdecode(who.name),
        f"GIT_{role}_EMAIL": os.fsdecode(who.email),
        f"GIT_{role}_DATE": f"@{who.time} {who.offset}",
    }
