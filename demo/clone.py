"""A repository of a story, and what can be asked of it."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo.narrator import PATIENCE, Narrator, StoryError

EXTRA = Path(__file__).resolve().parent / "data"
"""The demo's own data, beside that of the templates."""


class Clone:
    """One repository of a story, and what can be asked of it."""

    def __init__(self, narrator: Narrator, directory: Path) -> None:
        self.narrator = narrator
        self.directory = directory

    def show(self, *command: str, succeeds: bool = True) -> str:
        """Run a command in front of the reader."""
        return self.narrator.show(self.directory, *command, succeeds=succeeds)

    def git(self, *arguments: str) -> str:
        """What git answers."""
        return self.narrator.ask(self.directory, "git", *arguments)

    def ml(self, *arguments: str) -> Any:
        """The JSON that `git ml` answers."""
        return json.loads(self.git("ml", *arguments, "--json"))

    def stages(self) -> dict[str, Any]:
        """What `git ml status` says of each stage."""
        return {each["name"]: each for each in self.ml("status")["stages"]}

    def states(self) -> dict[str, str]:
        """The state of each stage."""
        return {name: each["state"] for name, each in self.stages().items()}

    def all_fresh(self) -> bool:
        """Whether there is nothing to do."""
        return set(self.states().values()) == {"fresh"}

    def is_clean(self) -> bool:
        """Whether git sees no change in the worktree."""
        return self.git("status", "--porcelain") == ""

    def content(self, *directories: str) -> dict[str, bytes]:
        """The bytes of every file below some directories of the worktree."""
        return {
            path.relative_to(self.directory).as_posix(): path.read_bytes()
            for directory in directories
            for path in sorted((self.directory / directory).rglob("*"))
            if path.is_file()
        }

    def executions(self) -> set[str]:
        """Every task ever executed that is known here, as the path where the run cache notes it."""
        found = set()
        for ref in self.git("for-each-ref", "--format=%(refname)", "refs/ml/runs", "refs/ml/remotes/*/runs").split():
            listed = self.git("ls-tree", "-r", "--name-only", ref).splitlines()
            found |= {path for path in listed if path.startswith("runs/") and "/task/" in path}
        return found

    def executed_during(self, action: Callable[[], None]) -> list[str]:
        """The stages of the tasks that were executed while `action` was done, sorted."""
        before = self.executions()
        action()
        notes = [self.git("cat-file", "blob", f"refs/ml/runs:{path}") for path in self.executions() - before]
        return sorted(json.loads(note)["stage"] for note in notes)

    def add(self, kind: str, name: str) -> None:
        """Copy a file of the demo's own data into the repository."""
        shutil.copy(EXTRA / kind / name, self.directory / kind / name)
        self.narrator.note(self.directory, f"cp …/{name} {kind}/")

    def replace(self, name: str, old: str, new: str) -> None:
        """Edit a file as the reader would with an editor."""
        path = self.directory / name
        text = path.read_text()
        if old not in text:
            raise StoryError(f"'{name}' has no '{old}' to edit")
        path.write_text(text.replace(old, new))
        self.narrator.note(self.directory, f"edit {name}    # {old.strip()}  →  {' '.join(new.split())}")

    def commit(self, message: str, *, wait: bool = True) -> str:
        """Commit everything, wait for the results unless told otherwise; give the user's own commit."""
        self.show("git", "add", ".")
        self.show("git", "commit", "-q", "-m", message)
        mine = self.git("log", "-1", "--format=%h", f"--grep=^{message}$")
        if wait:
            self.wait()
        return mine

    def wait(self) -> None:
        """Wait for the runner."""
        self.show("git", "ml", "wait", succeeds=False)

    def has_nothing_to_run(self) -> bool:
        """Whether a run here finds every stage fresh, executes nothing and publishes nothing."""
        known = self.executions()
        report = self.ml("run")
        return (
            self.all_fresh()
            and report["published"] is None
            and self.executions() == known
            and all(each["ran"] == 0 for each in report["stages"])
        )

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until `condition` gives something true, and give that."""
        end = time.monotonic() + PATIENCE
        while not (value := condition()):
            if time.monotonic() > end:
                raise StoryError(f"waited {PATIENCE:.0f} s in vain")
            time.sleep(0.05)
        return value

    def runner_after(self, stage_name: str, datums: int) -> int | None:
        """The process id of the runner once it has finished that many datums of a stage."""
        home = self.directory / ".git" / "ml"
        try:
            state = json.loads((home / "runs" / (home / "latest").read_text().strip() / "state.json").read_text())
        except FileNotFoundError:
            return None
        done = state["stages"].get(stage_name, {}).get("done", 0)
        return int(state["pid"]) if state["status"] == "running" and done >= datums else None
