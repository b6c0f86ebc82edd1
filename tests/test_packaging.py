"""A wheel built from this checkout, installed elsewhere, has everything it needs and answers."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import gitml

TOP = Path(__file__).resolve().parent.parent


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=TOP)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; the dependencies are those of the tests, found through a .pth file."""
    where = tmp_path_factory.mktemp("installed")
    venv.create(where, symlinks=True)
    python = where / "bin" / "python"
    run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python,
        "install", "--no-deps", "--no-index", wheel, cwd=where)  # fmt: skip
    (site,) = where.glob("lib/python*/site-packages")
    # a directory named in a .pth file is searched, but .pth files inside it (our editable install) are not read
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return where


@pytest.fixture
def environment(installed: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{installed / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def names(directory: Path) -> list[str]:
    return [path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()]


def test_the_wheel_has_hooks_templates_schema_and_manual_page(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    for kind in ("hooks", "templates"):
        expected = {f"gitml/_data/{kind}/{name}" for name in names(TOP / kind) if "__pycache__" not in name}
        assert expected
        assert {name for name in held if name.startswith(f"gitml/_data/{kind}/")} == expected
    assert "gitml/pipeline/spec/pipeline.schema.json" in held
    assert "gitml/py.typed" in held
    (page,) = (name for name in held if name.endswith(".data/data/share/man/man1/git-ml.1"))
    assert held[page] == (TOP / "docs/man/git-ml.1").read_bytes()
    assert held[page]
    assert not [name for name in held if name.startswith(("tests/", "demo/")) or name.endswith(".pyc")]


def test_the_installed_package_is_not_the_checkout(
    installed: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    found = run("python", "-c", "import gitml; print(gitml.__file__)", cwd=tmp_path, env=environment)
    assert Path(found.strip()).is_relative_to(installed)


def test_git_finds_the_command(environment: dict[str, str], tmp_path: Path) -> None:
    assert run("git", "ml", "version", cwd=tmp_path, env=environment) == f"gitml version {gitml.__version__}\n"
    assert "status" in run("git", "ml", "-h", cwd=tmp_path, env=environment)
    assert run("python", "-m", "gitml", "version", cwd=tmp_path, env=environment).startswith("gitml version")


def test_git_finds_the_manual_page(installed: Path, environment: dict[str, str], tmp_path: Path) -> None:
    page = installed / "share/man/man1/git-ml.1"
    assert ".TH" in page.read_text().upper()
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    # where `git ml --help` has man look, which it works out from PATH
    assert run("man", "--where", "git-ml", cwd=tmp_path, env=environment).strip() == str(page)


def test_init_from_the_wheel_writes_templates_and_hooks(environment: dict[str, str], tmp_path: Path) -> None:
    run("git", "ml", "init", "--template", "blank", "new", cwd=tmp_path, env=environment)
    new = tmp_path / "new"
    assert (new / ".gitattributes").is_file()
    for shim in names(TOP / "hooks"):
        hook = new / ".git/hooks" / shim
        assert "gitml hook" in hook.read_text()
        assert os.access(hook, os.X_OK)
    run("git", "add", ".", cwd=new, env=environment)
    run("git", "commit", "-q", "-m", "first", cwd=new, env=environment)
    assert run("git", "ml", "status", "--exit-code", cwd=new, env=environment)
