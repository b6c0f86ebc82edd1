"""How long `git ml diff` and `git ml report` take on a pipeline of many stages.

    python -m benchmarks.review [--stages N] [--runs N]

A chain of N stages; a parameter that all of them read changes, so every stage is made anew and has a metric. Prints the
time to report, with and without results in the run cache, and what that is of the three seconds allowed.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.lab import ENVIRONMENT, git

ALLOWED = 3.0
"""Seconds for two hundred stages."""


def pipeline(count: int) -> str:
    stages = []
    for number in range(count):
        repo = f"s{number - 1}" if number else "data"
        command = f'printf \'{{"score": {number}.%s}}\' "$(cat pfs/{repo}/* | wc -c)" > pfs/out/metrics.json'
        stages.append(
            {
                "pipeline": {"name": f"s{number}"},
                "transform": {"cmd": ["sh", "-c", command]},
                "input": {"pfs": {"repo": repo, "glob": "/"}},
                "params": ["params.json"],
                "metrics": [{"path": "metrics.json", "name": "score", "goal": "max"}],
            }
        )
    return json.dumps({"stages": stages}, indent=1)


def best(where: Path, runs: int, *arguments: str) -> tuple[float, float]:
    """The best and the median of some runs of `git ml`, in seconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(["git", "ml", *arguments], cwd=where, env=ENVIRONMENT, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times), statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    ENVIRONMENT["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="gitml-review-") as temporary:
        ENVIRONMENT["HOME"] = temporary
        where = Path(temporary) / "work"
        git(Path(temporary), "init", "-q", "-b", "main", "work")
        git(where, "config", "user.name", "bench")
        git(where, "config", "user.email", "bench@example.org")
        (where / "data").mkdir()
        (where / "data" / "file").write_text("1\n")
        (where / "params.json").write_text('{"a": 1}\n')
        (where / "pipeline.json").write_text(pipeline(options.stages))
        for value in (1, 2):
            (where / "params.json").write_text(f'{{"a": {value}}}\n')
            git(where, "add", "-A")
            git(where, "commit", "-q", "-m", f"{value}")
            subprocess.run(["git", "ml", "run"], cwd=where, env=ENVIRONMENT, check=True, capture_output=True)
        found = json.loads(
            subprocess.run(
                ["git", "ml", "diff", "--json"], cwd=where, env=ENVIRONMENT, check=True, capture_output=True
            ).stdout
        )
        if sum(stage["what"] == "made anew" for stage in found["stages"]) != options.stages:
            raise SystemExit("not every stage was made anew")
        page = Path(temporary) / "page.html"
        for title, *arguments in (
            ("diff", "diff"), ("its verdict", "diff", "--stat"), ("as Markdown", "diff", "--md"),
            ("page of the last change", "report", "--html", str(page)),
            ("page of a comparison", "report", "--html", str(page), "HEAD~2..HEAD"),
        ):  # fmt: skip
            least, median = best(where, options.runs, *arguments)
            print(f"{title:<30} {least:6.2f} s  median {median:6.2f} s  {median / ALLOWED:5.2f} of {ALLOWED} s")
        shutil.copytree(where, Path(temporary) / "copy")
        git(Path(temporary) / "copy", "update-ref", "-d", "refs/ml/runs")
        print(f"the page has {page.stat().st_size / 1e6:.2f} MB")
        least, median = best(Path(temporary) / "copy", options.runs, "diff")
        print(f"{'diff without a run cache':<30} {least:6.2f} s  median {median:6.2f} s  "
              f"{median / ALLOWED:5.2f} of {ALLOWED} s")  # fmt: skip


if __name__ == "__main__":
    main()
