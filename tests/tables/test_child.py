"""Comparing in a process with limits: which one was exceeded is said, and nothing is left behind."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from gitml.tables.child import Limits, compare_in_child, overlap_in_child
from gitml.tables.compare import Options, compare, overlap
from tests.tables.test_values import write


def tables(where: Path, rows: int = 100) -> tuple[Path, Path]:
    old, new = where / "old", where / "new"
    frame = pl.DataFrame({"id": range(rows), "x": [f"text {number % 7}" for number in range(rows)]})
    frame.write_csv(old)
    frame.with_columns(pl.col("id") + 10).write_csv(new)
    return old, new


def test_a_child_gives_what_the_process_itself_does(tmp_path: Path) -> None:
    old, new = tables(tmp_path)
    found = compare_in_child(old, new, "t.csv", key=["id"], samples=3, masked=["x"])
    assert found == compare(old, new, "t.csv", Options(key=("id",), samples=3, masked=("x",)))
    assert (found.tables[0].added, len(found.tables[0].sample_added)) == (10, 3)


def test_overlap_in_a_child(tmp_path: Path) -> None:
    old, new = (path.rename(path.with_suffix(".csv")) for path in tables(tmp_path))
    found = overlap_in_child(old, new, ["id"], samples=2, masked=["x"])
    assert found == overlap(old, new, ["id"], samples=2, masked=["x"])
    assert (found.shared, len(found.sample)) == (90, 2)
    assert overlap_in_child(old, new, columns=["x"]).shared == 100


def test_opaque_files_are_opaque_from_a_child(tmp_path: Path) -> None:
    old, new = tables(tmp_path)
    assert compare_in_child(old, new).opaque == "its format is not one of those that are read"
    assert compare_in_child(old, tmp_path / "none", "t.csv").opaque == "no such file or directory"


def test_memory_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    # one cell of 300 MB, of which text, value and frame are copies
    with path.open("w") as file:
        file.write('{"id": 1, "x": "')
        for _ in range(300):
            file.write("x" * 1_000_000)
        file.write('"}\n')
    found = compare_in_child(path, path, limits=Limits(memory=1200 << 20))
    assert found.opaque == f"comparing takes more than {1200 << 20} bytes of memory"


@pytest.mark.parametrize("mebibytes", [50, 100, 200, 400])
def test_memory_that_does_not_suffice_to_start_is_said_too(mebibytes: int, tmp_path: Path) -> None:
    old, new = tables(tmp_path)
    found = compare_in_child(old, new, "t.csv", limits=Limits(memory=mebibytes << 20))
    assert found.opaque == f"comparing takes more than {mebibytes << 20} bytes of memory"


def test_time_is_limited(tmp_path: Path) -> None:
    old, new = tables(tmp_path, 3_000_000)
    started = time.monotonic()
    found = compare_in_child(old, new, "t.csv", limits=Limits(seconds=1))
    assert found.opaque == "comparing takes more than 1 s"
    assert time.monotonic() - started < 10


def test_the_answer_is_limited(tmp_path: Path) -> None:
    old, new = tables(tmp_path)
    found = compare_in_child(old, new, "t.csv", limits=Limits(answer=100))
    assert found.opaque == "the difference takes more than 100 bytes"


def test_a_child_writes_no_files(tmp_path: Path) -> None:
    old, new = tables(tmp_path)
    compare_in_child(old, new, "t.csv")
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]


def test_the_environment_and_the_directory_choose_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tables(tmp_path)
    (tmp_path / "polars.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert compare_in_child(old, new, "t.csv").opaque == ""


def test_a_child_that_dies_is_opaque(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    assert compare_in_child(broken, broken, "t.csv").opaque == "the comparison ended with 3"
    broken.write_text("#!/bin/sh\necho no\n")
    assert compare_in_child(broken, broken, "t.csv").opaque == "the comparison gave no answer"


def test_without_polars_a_child_goes_without(tmp_path: Path) -> None:
    old, new = tables(tmp_path)
    code = (
        "import json, sys\nsys.modules['polars'] = sys.modules['numpy'] = None\n"
        "import gitml.tables.compare as module\nfrom pathlib import Path\nmodule.has_polars = lambda: False\n"
        "print(json.dumps(module.compare(Path(sys.argv[1]), Path(sys.argv[2]), 't.csv').as_json()))\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, old, new], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)["tables"][0]
    assert (found["added"], found["removed"], found["changed"]) == (10, 10, 90)


def test_importing_loads_neither_polars_nor_numpy() -> None:
    code = (
        "import sys, gitml.tables.compare, gitml.tables.child; print('polars' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_an_estimate_is_the_same_every_time(tmp_path: Path) -> None:
    old, new = tables(tmp_path, 100_000)
    found = [compare_in_child(old, new, "t.csv") for _ in range(2)]
    assert found[0] == found[1] == compare(old, new, "t.csv")
    assert found[0].tables[0].columns[0].old is not None
    assert not found[0].tables[0].columns[0].old.exact


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".db", ".jsonl", ".csv"])
@pytest.mark.parametrize("seed", range(3))
def test_files_with_bytes_changed_are_compared_or_opaque(suffix: str, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    good, bad = tmp_path / f"good{suffix}", tmp_path / f"bad{suffix}"
    write(good, pl.DataFrame({"id": range(200), "x": [f"text {number % 7}" for number in range(200)]}))
    data = bytearray(good.read_bytes())
    # at the ends lies what says how the rest is read
    places = [*range(16, min(600, len(data))), *range(max(16, len(data) - 600), len(data))]
    for place in rng.sample(places, 12):
        data[place] = rng.randrange(256)
    bad.write_bytes(data)
    found = compare_in_child(good, bad, limits=Limits(memory=3 << 30, seconds=30))
    assert found.tables or found.opaque
    assert not found.opaque.startswith("the comparison ended")
