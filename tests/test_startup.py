"""What git starts must start fast: heavy modules stay out until they are needed."""

import subprocess
import sys

import pytest

HEAVY = {
    "typer",
    "rich",
    "numpy",
    "sklearn",
    "pygit2",
    "dulwich",
    "yaml",
    "matplotlib",
    "logging",
    "tomllib",
}


@pytest.mark.parametrize("module", ["gitml.filter.server", "gitml.hooks"])
def test_entry_points_of_git_import_nothing_heavy(module: str) -> None:
    listing = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", listing], capture_output=True, text=True, check=True)
    assert module in done.stdout.splitlines()
    assert HEAVY & set(done.stdout.splitlines()) == set()


def test_a_command_imports_only_itself() -> None:
    listing = (
        "import sys; from gitml.cli.main import build; build(['status'])\n"
        "print('\\n'.join(name for name in sys.modules if name.startswith('gitml.')))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", listing], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines())
    assert "gitml.cli.status" in loaded
    assert loaded & {"gitml.cli.run", "gitml.pipeline.run", "gitml.pipeline.task", "gitml.filter.server"} == set()


def test_the_library_loads_nothing_until_it_is_used() -> None:
    listing = "import sys, gitml; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", listing], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines())
    assert {name for name in loaded if name.startswith("gitml")} == {"gitml"}
    assert loaded & (HEAVY | {"subprocess", "hashlib", "fsspec"}) == set()
