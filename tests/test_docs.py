"""The documents say what the program has: commands, settings, JSON shapes; and their links lead somewhere."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from gitml.cli.main import COMMANDS, build, main
from gitml.errors import ExitCode

TOP = Path(__file__).resolve().parents[1]
COMMAND_PAGE = TOP / "docs" / "commands.md"
MAN_PAGE = TOP / "docs" / "man" / "git-ml.1"
DOCUMENTS = [*sorted(TOP.glob("*.md")), *sorted((TOP / "docs").rglob("*.md"))]
SOURCES = sorted((TOP / "gitml").rglob("*.py"))

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.*?) *$", re.MULTILINE)
_FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)


def man_text() -> str:
    """The man page without the markup of roff."""
    text = MAN_PAGE.read_text()
    text = re.sub(r"\\f[BIRP]|^\.(?:BR|IR|RB|B|I|TP|PP|SH) ?", "", text, flags=re.MULTILINE)
    return text.replace("\\-", "-")


def options_of(name: str) -> list[str]:
    """The long options of a command, or the short one where there is no long one; without hidden ones."""
    command = typer.main.get_command(build(list(COMMANDS)))
    found = command.commands[name]  # type: ignore[attr-defined]
    parameters = [each for one in [found, *getattr(found, "commands", {}).values()] for each in one.params]
    return [
        next((text for text in parameter.opts if text.startswith("--")), parameter.opts[0])
        for parameter in parameters
        if parameter.param_type_name == "option" and not parameter.hidden
    ]


def prose(document: Path) -> str:
    """A document without its code blocks."""
    return _FENCE.sub("", document.read_text())


def anchors(document: Path) -> set[str]:
    """The anchors that a forge makes of the headings of a document."""
    found = (
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(prose(document))
    )
    return set(found)


def test_there_are_commands() -> None:
    assert {"init", "install", "status", "run", "show"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    assert re.search(rf"`git ml {name}\b", COMMAND_PAGE.read_text()), f"{COMMAND_PAGE} does not show 'git ml {name}'"
    assert f"git ml {name}" in man_text()
    assert re.search(rf"^{name}$", man_text(), re.MULTILINE), f"{MAN_PAGE} has no entry for '{name}'"


def test_the_list_of_commands_has_them_all() -> None:
    rows = re.findall(r"^\| \[(`[^]]*`)\]\(#", COMMAND_PAGE.read_text(), re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`([a-z]+)`", row)) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name: str) -> None:
    text = COMMAND_PAGE.read_text()
    missing = [option for option in options_of(name) if not re.search(rf"(?<![\w-]){option}(?![\w-])", text)]
    assert missing == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "-h"]) == ExitCode.OK
    said = capsys.readouterr()
    assert said.err == ""
    usage, _, rest = said.out.partition("\n")
    assert usage.startswith(f"Usage: git ml {name}")
    assert rest.strip().partition("Options:")[0].strip(), "there is no help text"


@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md", "docs/concepts.md", "docs/man/git-ml.1"])
def test_every_command_that_is_shown_exists(name: str) -> None:
    internal = {"filter-process", "hook", "runner"}
    shown = set(re.findall(r"(?:`|^\$ |&& )git ml ([a-z-]+)", (TOP / name).read_text(), re.MULTILINE))
    assert shown - set(COMMANDS) - internal == set()


def test_every_setting_is_documented() -> None:
    read = {name for source in SOURCES for name in re.findall(r"\"(ml\.[a-zA-Z]+)\"", source.read_text())}
    assert "ml.auto" in read
    documented = set(re.findall(r"^\| `(ml\.\w+)` \|", COMMAND_PAGE.read_text(), re.MULTILINE))
    assert read == documented
    assert [name for name in sorted(read) if not re.search(rf"^{name}$", man_text(), re.MULTILINE)] == []


def test_every_environment_variable_is_documented() -> None:
    # GITML itself and the marker that keeps hooks quiet are read by the shims too
    places = [*SOURCES, *(TOP / "hooks").iterdir()]
    read = {name for place in places for name in re.findall(r"\bGITML(?:_[A-Z_]+)?\b", place.read_text())}
    assert "GITML_SKIP_SMUDGE" in read
    assert [name for name in sorted(read) if not re.search(rf"`{name}\b", COMMAND_PAGE.read_text())] == []


def test_every_exit_code_that_is_used_is_documented() -> None:
    text = "\n".join(source.read_text() for source in SOURCES if source.name != "errors.py")
    errors = (TOP / "gitml" / "errors.py").read_text()
    used = {code for code in ExitCode if f"ExitCode.{code.name}" in text or f"= ExitCode.{code.name}" in errors}
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", COMMAND_PAGE.read_text(), re.MULTILINE)}
    assert {int(code) for code in used} <= documented
    assert documented - {int(code) for code in ExitCode} == {141}
    assert {int(code) for code in re.findall(r"^(\d+)$", man_text(), re.MULTILINE)} == documented


def test_every_json_shape_is_documented() -> None:
    printed = {
        shape
        for room in ("cli", "review", "formats", "tables")
        for source in (TOP / "gitml" / room).glob("*.py")
        for shape in re.findall(r"\"schema\": \"(gitml/[a-z-]+/\d+)\"", source.read_text())
    }
    assert "gitml/status/1" in printed
    documented = set(re.findall(r"\"schema\": \"(gitml/[a-z-]+/\d+)\"", COMMAND_PAGE.read_text()))
    assert documented == printed


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in _LINK.findall(prose(document)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("module", SOURCES, ids=lambda path: str(path.relative_to(TOP)))
def test_every_module_is_on_the_map(module: Path) -> None:
    path = module.relative_to(TOP / "gitml").with_suffix("")
    parts = path.parts[:-1] if path.name == "__init__" else path.parts
    # these two are described as wholes
    if parts[:1] == ("cli",):
        parts = parts[:1]
    elif parts[:2] == ("pipeline", "spec"):
        parts = parts[:2]
    if parts:
        assert f"`{'/'.join(parts)}`" in (TOP / "docs" / "architecture.md").read_text()


@pytest.mark.skipif(shutil.which("man") is None or shutil.which("groff") is None, reason="man is not installed")
def test_the_manual_page_renders() -> None:
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["man", "--warnings", "-l", str(MAN_PAGE)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0
    assert done.stderr == ""
    for section in ("NAME", "SYNOPSIS", "COMMANDS", "STATES", "CONFIGURATION", "EXIT STATUS", "FILES", "EXAMPLES"):
        assert re.search(rf"^{section}$", done.stdout, re.MULTILINE)
