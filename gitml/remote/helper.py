"""`git-remote-ml`: what git starts for addresses that begin with `ml::`.

Lines come in on standard input, replies go to standard output, all talk to standard error. A request that fails ends
the process with one message; refs that do not move are named one by one.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from gitml.errors import ExitCode, GitmlError, MachineError, UserError
from gitml.git.followers import Followers, Waiting
from gitml.git.repository import Repository
from gitml.oid import ObjectFormat, Oid
from gitml.protocol.remote_helper import (
    Capabilities,
    End,
    Fetch,
    HelperDecoder,
    List,
    Option,
    Push,
    Request,
    format_capabilities,
    format_fetched,
    format_option_reply,
    format_pushed,
    format_refs,
)
from gitml.provenance.codec import harmless
from gitml.record import replace
from gitml.remote.address import parse_address
from gitml.remote.bucket import StoreError
from gitml.remote.fold import NEVER, NOW
from gitml.remote.interrupt import end_when_interrupted
from gitml.remote.state import State
from gitml.remote.store import Store, require_state
from gitml.remote.terms import Terms, Wishes

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

    from gitml.remote.landing import Landing

_BOOLEANS = {b"true": True, b"false": False, b"1": True, b"0": False, b"": True}


def run() -> NoReturn:
    """Be `git-remote-ml`."""
    end_when_interrupted()
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    # taking the interpreter and the store's threads apart takes as long as a request, and git waits
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Talk to git until it has no more to ask; give the exit code."""
    argv = sys.argv[1:] if arguments is None else list(arguments)
    os.environ["GIT_NO_REPLACE_OBJECTS"] = "1"  # a store gets what objects are, not what stands in for them here
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if argv and argv[0] in ("-h", "--help"):
        sys.stdout.write(_USAGE)
        return ExitCode.OK
    if not 1 <= len(argv) <= 2:
        sys.stderr.write(_USAGE)
        return ExitCode.USAGE
    helper: Helper | None = None
    try:
        helper = Helper(argv[0], argv[-1])
        return helper.serve(sys.stdin.fileno(), sys.stdout.fileno())
    except GitmlError as error:
        _complain(error.message, error.hint)
        return error.exit_code
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except OSError as error:
        machine = MachineError(error)
        _complain(machine.message, machine.hint)
        return machine.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    finally:
        if helper is not None:
            helper.close()


_USAGE = """usage: git-remote-ml REMOTE [URL]

git starts this for addresses like ml::s3://bucket/path. Use them with git clone, fetch, push, ls-remote.
They are described in docs/remote.md.
"""


class Helper:
    """One conversation about one store."""

    def __init__(self, remote: str, url: str) -> None:
        self._url = url
        self._repo = Repository.discover() if os.environ.get("GIT_DIR") else None
        self._address = parse_address(url, settings_of(self._repo, remote))
        self._outside: TemporaryDirectory[str] | None = None
        if self._repo is not None:
            place = self._repo.state_dir / "stores"
        else:
            self._outside = _temporary_directory()
            place = Path(self._outside.name)
        self._store = Store(self._address, place)
        self._state: State | None = None
        self._asks_format = False
        self._asks_connectivity = False
        self._wishes = Wishes()
        self._terms = Terms(leases={})
        self._landings: list[Landing] = []
        self._waiting: Waiting | None = None

    def close(self) -> None:
        """Let go of what was fetched: refs reach it by now."""
        for landing in self._landings:
            landing.release()
        if self._waiting is not None:
            self._waiting.close()
        if self._outside is not None:
            self._outside.cleanup()

    def serve(self, source: int, target: int) -> int:
        """Answer what comes from one descriptor to the other, until no more comes."""
        decoder = HelperDecoder()
        while True:
            request = decoder.next_request()
            if request is None:
                decoder.receive(os.read(source, 1 << 16))
                continue
            if isinstance(request, End):
                return ExitCode.OK
            _write_all(target, self._answer(request))

    def _answer(self, request: Request) -> bytes:
        match request:
            case Capabilities():
                return format_capabilities()
            case Option():
                return self._set(request.name, request.value)
            case List():
                return self._list(request.for_push)
            case Fetch():
                return self._fetch(request.wants)
            case Push():
                return self._push(request)
        raise AssertionError(request)

    def _set(self, name: str, value: bytes) -> bytes:
        text = value.decode("utf-8", "replace")
        match name:
            case "progress":
                shown = _BOOLEANS.get(value, False)
                self._wishes = replace(self._wishes, shown=shown)
                self._terms = replace(self._terms, shown=shown)
            case "verbosity":
                if text.isdigit() and int(text) == 0:
                    self._wishes = replace(self._wishes, shown=False)
                    self._terms = replace(self._terms, shown=False)
            case "object-format":
                self._asks_format = _BOOLEANS.get(value, False)
                if value not in _BOOLEANS and text not in ("sha1", "sha256"):
                    return format_option_reply(True, f"no object format '{text}'")
            case "check-connectivity":
                self._asks_connectivity = _BOOLEANS.get(value, False)
            case "depth":
                if not text.isdigit():
                    return format_option_reply(True, f"no depth '{text}'")
                # 0 takes a depth back: git fetches tags after the rest
                self._wishes = replace(self._wishes, depth=int(text) or None)
            case "deepen-relative":
                self._wishes = replace(self._wishes, relative=_BOOLEANS.get(value, False))
            case "filter":
                if "sparse:" in text:
                    raise UserError(
                        f"the filter '{text}' is not known to stores", hint="blob:none, blob:limit or tree:N"
                    )
                self._wishes = replace(self._wishes, filters=text)
            case "from-promisor":
                self._wishes = replace(self._wishes, from_promisor=_BOOLEANS.get(value, False))
            case "followtags":
                self._wishes = replace(self._wishes, follow_tags=_BOOLEANS.get(value, False))
            case "dry-run":
                self._terms = replace(self._terms, dry_run=_BOOLEANS.get(value, False))
            case "atomic":
                self._terms = replace(self._terms, atomic=_BOOLEANS.get(value, False))
            case "cas":
                return self._lease(value)
            case "push-option":
                if text.startswith("head="):
                    branch = value.removeprefix(b"head=").removeprefix(b"refs/heads/")
                    self._terms = replace(self._terms, head=b"refs/heads/" + branch)
                    return format_option_reply(True)
                if text not in (f"fold={NOW}", f"fold={NEVER}"):
                    raise UserError(f"unknown push option '{text}'", hint="known are fold=now, fold=never, head=BRANCH")
                self._terms = replace(self._terms, fold=text.removeprefix("fold="))
            case "cloning" | "force-if-includes" | "update-shallow" | "no-dependents":
                pass  # nothing changes here: git does its part itself, or we always do it so
            case "refetch":
                self._wishes = replace(self._wishes, anew=_BOOLEANS.get(value, False))
            case "deepen-since" | "deepen-not":
                raise UserError(
                    f"'{name}' is not known to stores, so --shallow-since and --shallow-exclude are not",
                    hint="--depth N",
                )
            case _:
                return format_option_reply(False)
        return format_option_reply(True)

    def _lease(self, value: bytes) -> bytes:
        name, _, text = value.rpartition(b":")
        try:
            oid = Oid.parse(text)
        except ValueError:
            return format_option_reply(True, "no lease: it is REF:OID")
        leases = {**self._terms.leases, name: oid if any(oid) else None}
        self._terms = replace(self._terms, leases=leases)
        return format_option_reply(True)

    def _list(self, for_push: bool) -> bytes:
        self._state = self._store.read()
        if self._state is None and not for_push:
            require_state(None, self._address)
        state = self._state or State(self._repo.format if self._repo is not None else ObjectFormat.SHA1)
        if self._repo is not None and self._repo.format is not state.format and not self._asks_format:
            raise UserError(
                f"'{self._address.url}' has {state.format.value} objects, this repository {self._repo.format.value}"
            )
        if for_push and self._repo is not None:
            with suppress(OSError):  # then the hook pushes by itself
                self._waiting = Waiting(
                    self._repo.state_dir, self._url, {os.fsdecode(name): ref.oid for name, ref in state.refs.items()}
                )
        refs = []
        for name, ref in sorted(state.refs.items()):
            refs.append((name, ref.oid))
            if ref.peeled is not None and not for_push:
                refs.append((name + b"^{}", ref.peeled))
        # a push of all refs would delete HEAD
        head = state.head if state.head in state.refs and not for_push else None
        return format_refs(state.format if self._asks_format else None, head, refs)

    def _fetch(self, wants: Sequence[Oid]) -> bytes:
        if self._repo is None:
            raise UserError("there is no repository to fetch into")
        from gitml.remote.fetch import fetch  # noqa: PLC0415 - git waits, and a push needs less of it

        state = require_state(self._state if self._state is not None else self._store.read(), self._address)
        if self._repo.format is not state.format:
            # in a clone the repository has got its object format only now
            self._repo = Repository.discover()
        try:
            landing = fetch(self._repo, self._store, state, wants, self._wishes)
        except StoreError:
            # packs that were folded meanwhile may be gone: look again, once
            now = require_state(self._store.read(), self._address)
            if now.update == state.update:
                raise
            landing = fetch(self._repo, self._store, now, wants, self._wishes)
        self._landings.append(landing)
        partial = self._wishes.depth is not None or self._wishes.filters is not None
        keep = os.fsencode(landing.keeps[0]) if len(landing.keeps) == 1 else None
        return format_fetched(connected=self._asks_connectivity and not partial, keep=keep)

    def _push(self, request: Push) -> bytes:
        if self._repo is None:
            raise UserError("there is no repository to push from")
        from gitml.remote.push import push  # noqa: PLC0415 - a fetch needs nothing of it

        followers = self._waiting.followers() if self._waiting is not None else Followers()
        return format_pushed(push(self._repo, self._store, self._state, request.updates, self._terms, followers))


def settings_of(repo: Repository | None, remote: str) -> dict[str, str]:
    """The options that the configuration of a remote sets: `remote.<name>.mlRegion` and so on.

    What has no name of its own is set with `remote.<name>.mlOption`, as `name=value`, any number of times.
    """
    if repo is None or "://" in remote:
        return {}
    settings = {}
    for name, value in repo.configuration.below(f"remote.{remote}."):
        if name == "mloption":
            option, _, value = value.partition("=")  # noqa: PLW2901 - what stands behind its name
            settings[option.strip()] = value.strip()
        elif name in _SETTINGS:
            settings[_SETTINGS[name]] = value
    return settings


_SETTINGS = {
    "mlregion": "region",
    "mlendpoint": "endpoint",
    "mlprofile": "profile",
    "mlanonymous": "anonymous",
    "mlsinglewriter": "single_writer",
}


def _temporary_directory() -> "TemporaryDirectory[str]":
    from tempfile import TemporaryDirectory  # noqa: PLC0415 - only for `git ls-remote` outside of repositories

    return TemporaryDirectory(prefix="git-remote-ml-")


def _write_all(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def _complain(message: str, hint: str | None) -> None:
    for line in message.splitlines():
        sys.stderr.write(f"fatal: {harmless(line)}\n")
    for line in (hint or "").splitlines():
        sys.stderr.write(f"hint: {harmless(line)}\n")


if __name__ == "__main__":
    run()
