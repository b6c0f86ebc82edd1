"""The story of a bucket in five steps, told with real commands: `make demo-remote`.

Code, data, models and the record of all runs live in object storage, and there is no git server. The bucket is that of
moto's S3 server on this machine; with other credentials and without AWS_ENDPOINT_URL it would be Amazon's. Every
claim is checked before it is printed; the first that does not hold ends the story with exit code 1. Set KEEP=1 to keep
the directory and look around in it; the bucket goes with its server.
"""

import sys

from demo.clone import Clone
from demo.loopback import ServerError, make_bucket, moto
from demo.narrator import Narrator, StoryError, told

BUCKET = "models"
ADDRESS = f"ml::s3://{BUCKET}/digits"
DIRECTORIES = ("training", "input", "model", "inference")


def main() -> int:
    """Tell the story; give the exit code."""
    return told("Everything below is plain git, and object storage instead of a git server.", tell)


def tell(narrator: Narrator) -> None:
    """All five steps, with a bucket for as long as they take."""
    try:
        with moto() as endpoint:
            make_bucket(endpoint, BUCKET)
            narrator.environment |= {
                "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "ada", "AWS_SECRET_ACCESS_KEY": "lovelace",
                "AWS_REGION": "us-east-1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
            }  # fmt: skip
            _tell(narrator, endpoint)
    except ServerError as error:
        raise StoryError(f"the start of the S3 server: {error}") from None


def _tell(narrator: Narrator, endpoint: str) -> None:
    project = Clone(narrator, narrator.root / "digits")
    try:
        a_project(project)
        pushed(project, endpoint)
        colleague = cloned(project)
        continued(colleague)
        pulled(project, colleague)
    finally:
        project.until(lambda: not narrator.left_behind())


def a_project(project: Clone) -> None:
    """Step 1: data and code go in, the model comes out."""
    narrator = project.narrator
    narrator.step(1, "A project with a model")
    narrator.show(narrator.root, "git", "ml", "init", "--template", "classification", "digits")

    def act() -> None:
        project.commit("Handwritten digits")

    ran = project.executed_during(act)
    project.show("git", "ml", "status")
    narrator.claim(
        ran == ["inference"] * 3 + ["model"] and project.all_fresh() and project.is_clean(),
        "the model was trained, and each of three files predicted: four executions",
    )


def pushed(project: Clone, endpoint: str) -> None:
    """Step 2: an ordinary push, to a bucket."""
    narrator = project.narrator
    narrator.step(2, "Push it to a bucket")
    narrator.say(
        "Credentials are those that AWS's own tools read: variables, a profile, a role. These are for an S3 server on "
        "this machine, with an empty bucket."
    )
    narrator.note(project.directory, f"export AWS_ENDPOINT_URL={endpoint} AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=…")
    project.show("git", "remote", "add", "origin", ADDRESS)
    project.show("git", "push", "-q", "-u", "origin", "main")
    listed = project.show("git", "ls-remote", "origin")
    there = {name: oid for oid, name in (line.split("\t") for line in listed.splitlines())}
    narrator.claim(
        there.get("refs/heads/main") == project.git("rev-parse", "main")
        and there.get("refs/ml/runs") == project.git("rev-parse", "refs/ml/runs")
        and any(name.startswith("refs/ml/data/") for name in there),
        "the bucket has the branch, the data and the record of all runs",
    )
    narrator.say(
        "Large files are chunks, kept by refs/ml/data/; the branch has pointers to them. A hook sent them ahead of the "
        "branch. In the bucket all of it is packs, as git has them, and one small object that names refs and packs."
    )


def cloned(project: Clone) -> Clone:
    """Step 3: an ordinary clone has everything, and nothing to compute."""
    narrator = project.narrator
    narrator.step(3, "Clone it elsewhere")
    narrator.show(narrator.root, "git", "clone", "-q", ADDRESS, "colleague")
    colleague = Clone(narrator, narrator.root / "colleague")
    colleague.show("git", "ml", "install")
    colleague.show("git", "ml", "status")
    content = colleague.content(*DIRECTORIES)
    narrator.claim(
        bool(content) and content == project.content(*DIRECTORIES) and colleague.is_clean(),
        f"the clone has every file, {len(content)} of them, byte for byte",
    )
    narrator.claim(
        colleague.has_nothing_to_run() and colleague.executions() == project.executions(),
        "every stage is fresh there, and nothing was computed again",
    )
    return colleague


def continued(colleague: Clone) -> None:
    """Step 4: work goes on in the clone."""
    colleague.narrator.step(4, "Go on there: one file more")

    def act() -> None:
        colleague.add("input", "batch-4.csv")
        colleague.commit("A fourth batch")

    ran = colleague.executed_during(act)
    colleague.show("git", "push", "-q")
    colleague.show("git", "log", "--oneline", "--decorate")
    colleague.narrator.claim(
        ran == ["inference"] and colleague.all_fresh(), "exactly one datum ran, and no training: the cache came along"
    )
    there = colleague.git("ls-remote", "origin", "refs/heads/main").partition("\t")[0]
    colleague.narrator.claim(there == colleague.git("rev-parse", "main"), "the commit and its result are in the bucket")


def pulled(project: Clone, colleague: Clone) -> None:
    """Step 5: the first clone gets the results, not the work."""
    narrator = project.narrator
    narrator.step(5, "Pull it where it all began")
    project.show("git", "pull", "-q")
    project.show("git", "ml", "status")
    narrator.claim(
        project.content(*DIRECTORIES) == colleague.content(*DIRECTORIES) and project.is_clean(),
        "the new file and its prediction are here, byte for byte",
    )
    narrator.claim(
        project.has_nothing_to_run() and project.executions() <= colleague.executions(),
        "every stage is fresh, and nothing was computed again",
    )
    narrator.claim(
        len(project.executions() | colleague.executions()) == 5,
        "five executions in all, for two people: each was done once",
    )


if __name__ == "__main__":
    sys.exit(main())
