"""What evaluating and running pipelines costs, beside DVC and the bare commands.

    python -m benchmarks.pipelines [--only PART] [--stages N] [--chain N] [--datums N] [--unchanged N] [--size MIB]
                                   [--runs N] [--dvc COMMAND]

Parts: `commit` (what our hooks add to `git commit` in a pipeline of many stages of which none is affected), `chain`
(stages one after the other that copy a file, or add to it: first run, and again when nothing changed; peer: `dvc
repro`, `dvc status`), `datums` (what one datum costs beside its bare command, without and with the sandbox),
`unchanged` (many datums that are known and one that is new: time until its command starts, and the memory of the
runner), `revert` (how long the hook keeps git when a revert brings a large output back from the cache).

Everything lies in one temporary directory. Times are medians unless it says otherwise; those of us and of the peer
alternate where both are repeated. DVC is not installed with gitml: give its command, by default `dvc`, or do without.
"""

import argparse
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.lab import ENVIRONMENT, Peak
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.pipeline.cache import RunCache, task_path
from gitml.pipeline.stagerun import TaskLine
from gitml.pipeline.survey import Surveyor

MIB = 1 << 20


def run(where: Path, *command: str, **extra: str) -> float:
    """Run a command to its end; give the wall time in seconds."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=where, env=ENVIRONMENT | extra, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.decode()}{done.stdout.decode()}")
    return time.perf_counter() - started


def row(what: str, ours: str, peer: str = "", ratio: float | None = None, bound: str = "") -> None:
    """A line of the table."""
    print(f"{what:<64} {ours:>14} {peer:>14} {'' if ratio is None else f'{ratio:.3f}':>8}  {bound}", flush=True)


def project(where: Path, stages: Iterable[dict[str, object]], **fields: object) -> None:
    """A repository with a pipeline, installed, not committed."""
    where.mkdir()
    run(where, "git", "init", "-q", "-b", "main")
    run(where, "git", "ml", "install")
    (where / "pipeline.json").write_text(json.dumps({"stages": list(stages), **fields}))


def commit(where: Path, message: str, **extra: str) -> float:
    """Commit everything; give the seconds that `git commit` took."""
    run(where, "git", "add", "-A")
    return run(where, "git", "commit", "-q", "-m", message, **extra)


def stage(name: str, script: str, repo: str, glob: str = "/", **fields: object) -> dict[str, object]:
    """A stage that runs a line of shell."""
    return {
        "pipeline": {"name": name},
        "transform": {"cmd": ["sh", "-c", script]},
        "input": {"pfs": {"repo": repo, "name": "in", "glob": glob}},
        **fields,
    }


def of_commit(top: Path, options: argparse.Namespace) -> None:
    """What our hooks add to a commit that affects nothing."""
    where = top / "commit"
    project(
        where, (stage(f"s{number}", "cp /pfs/in/* /pfs/out/", f"data/{number}") for number in range(options.stages))
    )
    for number in range(options.stages):
        (where / "data" / str(number)).mkdir(parents=True)
        (where / "data" / str(number) / "file").write_text(f"{number}\n")
    commit(where, "all", CI="1")
    run(where, "git", "ml", "run")
    ours: list[float] = []
    plain: list[float] = []
    for number in range(options.runs):
        for kind in (ours, plain):
            (where / "notes").write_text(f"{number} {kind is ours}\n")
            extra = {} if kind is ours else {"GITML_ACTIVE": "1"}
            kind.append(commit(where, "notes", GITML_DETACH="1", **extra))
    added = statistics.median(ours) - statistics.median(plain)
    row(
        f"{options.stages} stages, none affected: added to git commit; commit without",
        f"{added * 1000:.0f} ms", f"{statistics.median(plain) * 1000:.0f} ms", None, "<= 150 ms",
    )  # fmt: skip


def copying(source: str, target: str, _: str) -> str:
    """A line of shell that copies a file."""
    return f"cp {source} {target}"


def adding(source: str, target: str, line: str) -> str:
    """One that copies it and adds a line."""
    return f"cat {source} > {target}; echo {line} >> {target}"


def of_chain(top: Path, options: argparse.Namespace) -> None:
    """Chains of stages, run for the first time and again.

    Stages that copy a file all do the same to the same, which is done once; so in another chain each adds a line.
    """
    names = ["data", *(f"s{number}" for number in range(options.chain))]
    title = f"chain of {options.chain} stages"
    dvc = shutil.which(options.dvc)
    for where, what, script in ((top / "chain", "that copy", copying), (top / "adding", "that add", adding)):
        project(
            where,
            (
                stage(after, script("/pfs/in/file", "/pfs/out/file", after), before)
                for before, after in itertools.pairwise(names)
            ),
        )
        (where / "data").mkdir()
        (where / "data" / "file").write_text("content\n")
        commit(where, "all", CI="1")
        ours: tuple[list[float], ...] = [run(where, "git", "ml", "run")], [], []
        run(where, "git", "ml", "status")  # which notes what the next ones can say
        for _ in range(options.runs):
            ours[1].append(run(where, "git", "ml", "run"))
            ours[2].append(run(where, "git", "ml", "status"))
        theirs: tuple[list[float], ...] = [], [], []
        if dvc is not None:
            other = top / f"dvc-{where.name}"
            dvc_project(other, dvc, [(b, a, script(f"{b}.txt", f"{a}.txt", a)) for b, a in itertools.pairwise(names)])
            theirs[0].append(run(other, dvc, "repro", "-q"))
            for _ in range(min(3, options.runs)):
                theirs[1].append(run(other, dvc, "repro", "-q"))
                theirs[2].append(run(other, dvc, "status", "-q"))
        for which, mine, yours in zip(
            ("first run; dvc repro", "nothing changed, run; dvc repro", "nothing changed, status; dvc status"),
            map(statistics.median, ours), theirs, strict=True,
        ):  # fmt: skip
            peer = statistics.median(yours) if yours else None
            row(
                f"{title} {what}: {which}", f"{mine:.2f} s", f"{peer:.2f} s" if peer else "no dvc",
                mine / peer if peer else None, "<= 0.1",
            )  # fmt: skip


def dvc_project(where: Path, dvc: str, stages: Iterable[tuple[str, str, str]]) -> None:
    """The same for DVC: stages as what they read, what they write, and their command."""
    where.mkdir()
    run(where, "git", "init", "-q", "-b", "main")
    run(where, dvc, "init", "-q")
    run(where, dvc, "config", "core.analytics", "false")
    lines = ["stages:"]
    for before, after, command in stages:
        lines += [f"  {after}:", f"    cmd: {command}", f"    deps: [{before}.txt]", f"    outs: [{after}.txt]"]
    (where / "dvc.yaml").write_text("\n".join(lines) + "\n")
    (where / "data.txt").write_text("content\n")


def many_datums(where: Path, count: int) -> None:
    """Files for as many datums, a thousand in a directory."""
    for number in range(count):
        folder = where / "data" / f"{number // 1000:04d}"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"{number:06d}").write_text(f"{number}\n")


def of_datums(top: Path, options: argparse.Namespace) -> None:
    """What a datum costs beside its bare command, one after the other."""
    count = options.datums
    bare = []
    for _ in range(min(count, 500)):
        started = time.perf_counter()
        subprocess.run(["/bin/true"], check=True)
        bare.append(time.perf_counter() - started)
    for sandbox, bound in (("none", "<= 5 ms"), ("bwrap", "<= 12 ms")):
        where = top / f"datums-{sandbox}"
        project(where, [{**stage("s", "", "data", "/*/*"), "transform": {"cmd": ["/bin/true"]}}])
        run(where, "git", "config", "ml.sandbox", sandbox)
        many_datums(where, count)
        commit(where, "all", CI="1")
        whole = run(where, "git", "ml", "run")
        each = whole / count - statistics.mean(bare)
        row(
            f"{count} datums of /bin/true, sandbox {sandbox}: added to each; bare", f"{each * 1000:.1f} ms",
            f"{statistics.mean(bare) * 1000:.1f} ms", None, bound,
        )  # fmt: skip


def record_all(where: Path) -> None:
    """Put results without files for all datums into the run cache, as runs do: computing so many would take hours."""
    repo = Repository.discover(where)
    with GitOdb(repo.git, repo.format) as odb:
        cache = RunCache(repo, odb)
        for status in Surveyor(repo, odb, cache).survey(repo.resolve("HEAD^{commit}")).statuses:
            name = status.stage.name
            with cache.update("datums") as update:
                for datum, key in zip(status.datums, status.task_keys, strict=True):
                    line = TaskLine(key, name, datum.label, "success", 1, 0.001, 0, "")
                    document = {**line.document(), "schema": "gitml/task-run/1", "run": "0" * 12, "time": 1}
                    update.put_json(task_path(key) + b"/record.json", document)


def of_unchanged(top: Path, options: argparse.Namespace) -> None:
    """Many datums that are known and a new one: when its command starts."""
    where, mark = top / "unchanged", top / "mark"
    script = f"test ! -e /pfs/in/*/new* || date +%s.%N > {mark}"  # only the new one leaves a mark
    project(where, [stage("s", script, "data", "/*/*", datum_tries=1)])
    run(where, "git", "config", "ml.sandbox", "none")
    many_datums(where, options.unchanged)
    commit(where, "all", CI="1")
    record_all(where)
    run(where, "git", "ml", "run")
    row(f"{options.unchanged} datums known: git ml status", f"{run(where, 'git', 'ml', 'status'):.2f} s")
    row(
        f"{options.unchanged} datums known: git ml ls datums s", f"{run(where, 'git', 'ml', 'ls', 'datums', 's'):.2f} s"
    )
    (where / "data" / "0000" / "new").write_text("new\n")
    commit(where, "one more", CI="1")
    started, used = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(["git", "ml", "run"], cwd=where, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    peak = Peak(process.pid)
    process.wait()
    memory = max(peak.stop().values())
    row(
        f"{options.unchanged} datums known, one new: until it starts",
        f"{float(mark.read_text()) - started:.2f} s",
        "",
        None,
        "<= 2 s",
    )
    row("    the whole run", f"{time.time() - started:.2f} s")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    row("    the whole run, processor time", f"{processor:.2f} s")
    row("    memory of the runner", f"{memory / 1e6:.0f} MB", "", None, "<= 400 MB")
    (where / "data" / "0000" / "newer").write_text("newer\n")
    run(where, "git", "add", "-A")
    started = time.time()
    run(where, "git", "commit", "-q", "-m", "one more")
    run(where, "git", "ml", "wait", "--timeout", "120")
    row("    by the hook: from the beginning of git commit", f"{float(mark.read_text()) - started:.2f} s")


def of_revert(top: Path, options: argparse.Namespace) -> None:
    """A revert that brings a large output back: how long git is kept."""
    where = top / "revert"
    noise = "openssl enc -aes-128-ctr -pass file:/pfs/in/file -nosalt"
    script = f"head -c {options.size * MIB} /dev/zero | {noise} > /pfs/out/model 2>/dev/null"
    project(where, [stage("s", script, "data")])
    run(where, "git", "ml", "track", "s")
    (where / "data").mkdir()
    for content in ("one", "two"):
        (where / "data" / "file").write_text(content)
        commit(where, content, CI="1")
        run(where, "git", "ml", "run")
    took = run(where, "git", "revert", "--no-edit", "HEAD~1", GITML_DETACH="1")
    row(f"revert that restores {options.size} MiB: git revert", f"{took:.2f} s", "", None, "<= 1 s")
    run(where, "git", "ml", "wait", "--timeout", "120")


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "commit": of_commit,
    "chain": of_chain,
    "datums": of_datums,
    "unchanged": of_unchanged,
    "revert": of_revert,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, help="only these parts; may be repeated")
    parser.add_argument("--stages", type=int, default=1000)
    parser.add_argument("--chain", type=int, default=200)
    parser.add_argument("--datums", type=int, default=10_000)
    parser.add_argument("--unchanged", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the output that is restored")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dvc", default="dvc", help="the command of the peer")
    options = parser.parse_args()
    ENVIRONMENT["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{ENVIRONMENT['PATH']}"
    ENVIRONMENT.pop("CI", None)
    row("what; peer", "gitml", "peer", None, "bound")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        for name in options.only or PARTS:
            PARTS[name](Path(temporary), options)


if __name__ == "__main__":
    main()
