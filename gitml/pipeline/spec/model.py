"""A checked pipeline as values. Whoever holds one need not look at JSON again.

Paths are repository paths in bytes, as git stores them. Durations are seconds.
"""

from collections.abc import Iterator

from gitml.record import field, record


@record(kw_only=True)
class Cron:
    """When a file is added to an input: a schedule, see `pipeline.schedule`."""

    spec: str
    start: str = ""
    """Time of RFC 3339 from which on it ticks; empty: the commit that brought the input."""
    overwrite: bool = False
    """Whether a tick replaces those before it."""


@record(kw_only=True)
class Trigger:
    """Which change of an input counts: any of the given conditions, or all of them."""

    size: int = 0
    """Bytes that it must have grown by."""
    commits: int = 0
    """Commits that must have touched it."""
    rate_limit: str = ""
    """Schedule that must have ticked before the newest of these commits."""
    cron: str = ""
    """Schedule that must have ticked before the commit that is evaluated."""
    all: bool = False


@record(kw_only=True)
class PfsInput:
    """Files of a repository path or of an upstream stage's output, split into datums by a glob."""

    name: str
    """Where a task sees it: `/pfs/<name>`."""
    repo: str
    """What the specification calls it: a repository path or the name of a stage."""
    path: bytes
    """The repository path it resolves to; for an upstream stage, that stage's output directory."""
    upstream: str | None
    """The stage whose output this is, None for data of the user."""
    glob: str
    """Normalised: with a leading slash, without a trailing one (but `/` itself)."""
    join_on: str = ""
    """What a join matches, `$1` standing for what the first capturing group of the glob matched; empty: nothing."""
    outer_join: bool = False
    """Whether a join keeps files that have no match."""
    group_by: str = ""
    """What a group puts together, written as `join_on`."""
    branch: str = ""
    """The git branch whose tip has the files; empty: the commit being evaluated."""
    commit: str = ""
    """The revision that has the files: an oid, also shortened, or a tag. Empty: as `branch` says."""
    empty_files: bool = False
    """Whether a task sees files without their bytes."""
    never: bool = False
    """Whether a change of this input alone runs nothing."""
    reference: bool = False
    """Whether the content is left out of the key."""
    trigger: Trigger | None = None
    """Which changes count; None: all."""
    cron: Cron | None = None
    """How ticks come to be in it; None: the files are the user's or a stage's."""

    @property
    def follows_record(self) -> bool:
        """Whether what it holds does not follow from the tree alone: the record says what it was."""
        return self.is_elsewhere or self.never or self.trigger is not None

    @property
    def is_elsewhere(self) -> bool:
        """Whether the files are those of another commit than the one being evaluated."""
        return bool(self.branch or self.commit)


@record(kw_only=True)
class CrossInput:
    """Every combination of one datum from each input."""

    inputs: tuple["Input", ...]


@record(kw_only=True)
class UnionInput:
    """The datums of all inputs, one after the other."""

    inputs: tuple["Input", ...]


@record(kw_only=True)
class JoinInput:
    """The combinations of one datum from each input whose `join_on` gives the same text."""

    inputs: tuple["Input", ...]


@record(kw_only=True)
class GroupInput:
    """One datum for each text that `group_by` gives, of everything that gives it."""

    inputs: tuple["Input", ...]


Input = PfsInput | CrossInput | UnionInput | JoinInput | GroupInput


def leaves(node: Input) -> Iterator[PfsInput]:
    """The pfs inputs below `node`, in order."""
    if isinstance(node, PfsInput):
        yield node
    else:
        for inner in node.inputs:
            yield from leaves(inner)


def keyless(node: Input) -> Iterator[tuple[PfsInput, str]]:
    """The pfs inputs below joins and groups that name no key, each with the field that would."""
    if isinstance(node, PfsInput):
        return
    field = {JoinInput: "join_on", GroupInput: "group_by"}.get(type(node))
    if field is not None:
        yield from ((leaf, field) for leaf in leaves(node) if not getattr(leaf, field))
    for inner in node.inputs:
        yield from keyless(inner)


@record(kw_only=True)
class Secret:
    """A secret of the clone, and where a command finds it; empty texts: not there."""

    name: str
    mount_path: str = ""
    """Absolute; a directory with a file for each key."""
    env_var: str = ""
    key: str = ""
    """Whose value `env_var` has."""


@record(kw_only=True)
class ImageSource:
    """Where the files of an image come from. Neither `path` nor `file`: a container engine has or fetches it."""

    path: bytes | None = None
    """An archive in the repository: a tar file, or the directory of an OCI image layout."""
    content: str = ""
    """What git has at `path`: mode and oid, part of the key."""
    file: str | None = None
    """An archive elsewhere on this machine, an absolute path."""
    digest: str | None = None
    """`sha256:` and 64 hex digits: of the manifest or the configuration that the image must have; part of the key."""


@record(kw_only=True)
class Transform:
    """How a stage runs its code."""

    cmd: tuple[str, ...]
    stdin: tuple[str, ...] = ()
    """Lines given to the command, each ended by a newline; empty: no standard input."""
    err_cmd: tuple[str, ...] = ()
    err_stdin: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    """Sorted by name."""
    accept_return_code: tuple[int, ...] = ()
    working_dir: str | None = None
    """Relative to the top of the workspace, or absolute where the code is mounted; None: the top."""
    image: str | None = None
    """The image the specification names, part of the key; `images` said what stands for it here."""
    source: ImageSource | None = None
    """Where commands find the files of the image; None: the host stands for it."""
    secrets: tuple[Secret, ...] = ()
    user: str = ""
    """`user[:group]`, names or numbers, that commands run as where they can; empty: as the image says, or as we do."""
    datum_batching: bool = False
    """Whether the command asks for one datum after another."""
    debug: bool = False
    """Whether the log tells how commands were started."""
    memory_volume: bool = False
    """Whether workspaces lie in memory, where they fit."""


@record(kw_only=True)
class CodeMount:
    """Repository files that a task gets as its code."""

    source: bytes
    """A file or directory of the repository; `b""` is its top."""
    target: str
    """Absolute path (`/code`) under the sandbox, or a path relative to the top of the workspace."""


@record(kw_only=True)
class ParamRef:
    """Parameters a stage reads: a whole file, or one key of it."""

    path: bytes
    key: str | None
    """Dotted (`train.alpha`); None selects the whole file."""


@record(kw_only=True)
class Metric:
    """A file of numbers among the outputs, and how to judge one of them."""

    path: str
    """JSON, YAML or TOML file, relative to the output directory."""
    name: str | None = None
    """Dotted key inside the file; None: every number in it, without judgement."""
    goal: str | None = None
    """'max', 'min' or None."""
    tolerance: float = 0.0
    """Changes up to this size are not changes."""
    noise: str | None = None
    """Dotted key in the same file of the number's standard error; None: nothing is known of it."""
    gate: tuple[float | None, float | None] = (None, None)
    """Least and greatest acceptable value."""


@record(kw_only=True)
class Predictions:
    """A table of predictions among the outputs. All but the paths are names of columns."""

    path: str
    """Relative to the output directory."""
    id: str
    """What tells examples apart."""
    prediction: str
    label: str | None = None
    """What is true."""
    labels: bytes | None = None
    """Repository path of the table that has the label; None: that of the predictions has it."""
    labels_id: str = ""
    """What tells examples apart there."""
    score: str | None = None
    """How sure the prediction is."""
    slices: tuple[str, ...] = ()


@record(kw_only=True)
class Plot:
    """Columns of a table among the outputs that are drawn, or an image among them."""

    path: str
    """Relative to the output directory."""
    y: tuple[str, ...] = ()
    """Empty: the file is an image."""
    x: str | None = None
    """None: the number of the row."""
    title: str = ""
    """Empty: the path."""

    @property
    def is_image(self) -> bool:
        """Whether the file is an image."""
        return not self.y


@record(kw_only=True)
class Leakage:
    """Two tables that must not share rows, by repository path."""

    train: bytes
    test: bytes
    columns: tuple[str, ...] = ()
    """In which rows are compared; empty: in all that both have."""


@record(kw_only=True)
class Resources:
    """An amount of each resource of a machine; None: no matter how much."""

    cpu: float | None = None
    """Cores."""
    memory: int | None = None
    """Bytes."""
    disk: int | None = None
    """Bytes."""
    gpu: int | None = None


@record(kw_only=True)
class Stage:
    """One step of the pipeline."""

    name: str
    """With the project before it, if it has one: `video/frames`."""
    project: str = ""
    """Namespace of the stage; empty: Pachyderm's `default`."""
    description: str = ""
    transform: Transform
    input: Input | None
    """None: one datum without inputs."""
    output: bytes
    """Repository path of the output directory."""
    code: tuple[CodeMount, ...] | None = None
    """None: found from `cmd`, `stdin` and `err_cmd`."""
    params: tuple[ParamRef, ...] = ()
    metrics: tuple[Metric, ...] = ()
    predictions: tuple[Predictions, ...] = ()
    leakage: tuple[Leakage, ...] = ()
    plots: tuple[Plot, ...] = ()
    parallelism: int = 1
    parallel_asked: int | None = field(default=None, compare=False)
    """`parallelism` if the specification says it, None if nobody did: a cluster then takes as many datums as it can."""
    executor: str = ""
    """Where tasks are computed, 'local' or 'dask'; empty: where the user says."""
    datum_tries: int = 3
    datum_timeout: float | None = None
    job_timeout: float | None = None
    """For one run of the stage, from its start."""
    every_job: bool = False
    """Whether a run computes every datum, also those with a known result."""
    requests: Resources = Resources()
    """What a task needs to run at all: decides how many run at once."""
    limits: Resources = Resources()
    """What a task may take at most."""
    salt: str = ""
    egress: str = ""
    """Address that results are copied to once they are committed, without credentials; empty: they are not."""
    where: str = "pipeline.json"
    """File and JSON path of the specification, for messages."""

    @property
    def file(self) -> bytes:
        """The file that has the specification: `pipeline.json`, or one that it lists."""
        return self.where.partition(": ")[0].encode("utf-8", "surrogateescape")

    @property
    def inputs(self) -> tuple[PfsInput, ...]:
        """The pfs inputs, in order."""
        return tuple(leaves(self.input)) if self.input is not None else ()


@record(kw_only=True)
class LeftOut:
    """A stage of a listed file that cannot run here. To the others its directory holds data as any other."""

    name: str
    output: bytes
    why: str
    """The fields that stand against it, with what is said of them."""
    hint: str
    """What to do instead."""

    @property
    def in_words(self) -> str:
        """What became of it, as a sentence."""
        where = self.output.decode("utf-8", "surrogateescape")
        return (
            f"stage '{self.name}' is left out: {self.why}; what is committed in '{where}' is read as data: {self.hint}"
        )


@record(kw_only=True)
class Pipeline:
    """All stages, in an order in which every stage comes after those it reads."""

    stages: tuple[Stage, ...]
    left_out: tuple[LeftOut, ...] = field(default=())
    notices: tuple[str, ...] = field(default=())
    """Fields that were accepted but mean nothing here, one sentence each."""

    def stage(self, name: str) -> Stage:
        """The stage called `name`; raise `KeyError`."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)
