"""A container engine that only writes down how it was called.

In its directory it keeps `calls`, a JSON line for each call, and a file in `running/` for each container that runs;
`images` maps names to what `image inspect` prints. A container writes `made` to /pfs/out, then does what the file
`script` says, with `$RUNNING` as the directory of what runs.
"""

import json
from pathlib import Path
from typing import Any

_PROGRAM = r"""#!/bin/sh
exec PYTHON -S - "$0" "$@" 3<&0 <<'END'
import json, os, subprocess, sys, csv
from pathlib import Path
home = Path(HOME)
name, words = Path(sys.argv[1]).name, sys.argv[2:]
with (home / "calls").open("a") as file:
    file.write(json.dumps({"engine": name, "words": words, "env": dict(os.environ)}) + "\n")
images = json.loads((home / "images").read_text())
if words[:1] == ["info"] and (home / "broken").exists():
    sys.exit("Cannot connect to the daemon")
if words[:2] == ["image", "inspect"]:
    if words[2] not in images:
        sys.exit("Error: no such image")
    print(json.dumps([images[words[2]]]))
elif words[:1] == ["pull"]:
    if not (home / "registry").exists():
        sys.exit("connecting\nError: no route to registry")
    if name == "apptainer":
        Path(words[2]).write_bytes(b"SIF")
    images[words[-1]] = json.loads((home / "registry").read_text())
    (home / "images").write_text(json.dumps(images))
elif words[:1] == ["ps"]:
    print("\n".join(os.listdir(home / "running")))
elif words[:1] == ["rm"]:
    for each in words[2:]:
        (home / "running" / each).unlink(missing_ok=True)
elif "run" in words[:1] or "exec" in words[:2]:
    mounts = {}
    for option, value in zip(words, words[1:]):
        if option == "--mount":
            fields = dict(each.partition("=")[::2] for each in next(csv.reader([value])))
            mounts[fields["target"]] = fields["source"]
        if option == "--bind":
            source, target = value.split(":")[:2]
            mounts[target] = source
    if "--name" in words:
        (home / "running" / words[words.index("--name") + 1]).touch()
    Path(mounts["/pfs"], "out", "made").write_text("made\n")
    script = home / "script"
    os.dup2(3, 0)
    os.environ["RUNNING"] = str(home / "running")
    os.execv("/bin/sh", ["sh", str(script) if script.exists() else "/dev/null", *words])
END
"""


class FakeEngine:
    """The engine's directory, from outside."""

    def __init__(self, home: Path, python: str) -> None:
        self.home = home
        self.bin = home / "bin"
        self._python = python
        (home / "running").mkdir(parents=True)
        self.bin.mkdir()
        self.have({})

    def install(self, *names: str) -> None:
        """Be there under these names."""
        for name in names:
            program = self.bin / name
            program.write_text(_PROGRAM.replace("PYTHON", self._python).replace("HOME", repr(str(self.home))))
            program.chmod(0o755)

    def have(self, images: dict[str, Any]) -> None:
        """What it knows of images, by name."""
        (self.home / "images").write_text(json.dumps(images))

    def offer(self, image: dict[str, Any]) -> None:
        """What a registry gives, whatever is asked for."""
        (self.home / "registry").write_text(json.dumps(image))

    def script(self, text: str) -> None:
        """What containers do."""
        (self.home / "script").write_text(text)

    def calls(self, word: str = "") -> list[list[str]]:
        """The words of each call so far, of those that begin with `word`."""
        return [each["words"] for each in self._listed() if not word or word in each["words"][:2]]

    def environment(self, word: str) -> dict[str, str]:
        """The variables of the last call that began with `word`."""
        found: dict[str, str] = [each["env"] for each in self._listed() if word in each["words"][:2]][-1]
        return found

    def running(self) -> list[str]:
        """The names of containers that were started and not removed."""
        return sorted(path.name for path in (self.home / "running").iterdir())

    def _listed(self) -> list[Any]:
        path = self.home / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
