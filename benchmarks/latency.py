"""What gitml adds to a commit that affects nothing, and how long `git ml status` takes.

    python benchmarks/latency.py [--runs N] [--template NAME]

Sets up a template in a temporary repository, waits for its results, then times pairs in turn: `git commit` with our
hooks and with none, `git ml status` and `git status`. Prints medians, differences and budgets. The row of a bare
`python -c pass` says how fast the machine is at that moment; the budgets are for one where it takes 10 ms.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMIT_BUDGET_MS = 150
STATUS_BUDGET_MS = 250


def run(where: Path, *command: str) -> float:
    """Run a command; give the wall time in milliseconds."""
    started = time.perf_counter()
    subprocess.run(command, cwd=where, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return (time.perf_counter() - started) * 1000


def set_up(where: Path, template: str) -> None:
    subprocess.run(["git", "ml", "init", "--template", template, str(where)], check=True, stdout=subprocess.DEVNULL)
    for name, value in {"user.name": "Bench", "user.email": "bench@example.org"}.items():
        run(where, "git", "config", name, value)
    run(where, "git", "add", "-A")
    run(where, "git", "commit", "-m", "first")
    subprocess.run(["git", "ml", "wait", "--timeout", "300"], cwd=where, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--template", default="classification")
    options = parser.parse_args()
    os.environ.pop("CI", None)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    times: dict[str, list[float]] = {"commit": [], "plain commit": [], "status": [], "git status": [], "python": []}
    with tempfile.TemporaryDirectory() as temporary:
        where = Path(temporary) / "project"
        set_up(where, options.template)
        for number in range(options.runs):
            (where / "notes.txt").write_text(f"{number}\n")
            run(where, "git", "add", "notes.txt")
            times["commit"].append(run(where, "git", "commit", "-m", "with"))
            (where / "notes.txt").write_text(f"{number} again\n")
            run(where, "git", "add", "notes.txt")
            times["plain commit"].append(run(where, "git", "-c", "core.hooksPath=/dev/null", "commit", "-m", "without"))
            times["status"].append(run(where, "git", "ml", "status"))
            times["git status"].append(run(where, "git", "status"))
            times["python"].append(run(where, sys.executable, "-c", "pass"))
    median = {name: statistics.median(values) for name, values in times.items()}
    added = median["commit"] - median["plain commit"]
    print(f"{'':24}{'median ms':>10}{'min':>8}{'max':>8}")
    for name, values in times.items():
        print(f"{name:24}{median[name]:10.0f}{min(values):8.0f}{max(values):8.0f}")
    for name, value, budget in (
        ("added to a commit", added, COMMIT_BUDGET_MS),
        ("git ml status", median["status"], STATUS_BUDGET_MS),
    ):
        print(f"{name:24}{value:10.0f}   budget {budget}: {'ok' if value <= budget else 'over'}", end="")
        print(f", {value / median['python']:.1f} x python -c pass")


if __name__ == "__main__":
    main()
