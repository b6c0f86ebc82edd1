"""Every field that a specification may hold, and what becomes of it.

One table, for the reader (`reading`), the JSON Schema (`schema`) and the tests. It lists Pachyderm's fields (messages
`CreatePipelineRequest`, `Transform`, `Input`, `PFSInput` of its pps.proto, and those of the 1.x releases) and our
own. Names are in snake_case; camelCase is derived. A new field is one row here.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from gitml.record import field, record

LONGEST_NAME = 200
"""Characters of a stage name: a file name made of it must stay below 255 bytes."""
STAGE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*(?:/[A-Za-z0-9][A-Za-z0-9_.-]*)*"
"""Pachyderm's pipeline names, and `.` and `/`."""
PLACE = r"^$|^/|^(s3|gs|gcs|az|azblob|as|wasbs?|file)://"
"""How an address of egress begins."""
PROJECT_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
"""Pachyderm's project names, and `.`."""


class Kind(Enum):
    """The shape of a value."""

    __hash__ = object.__hash__  # members are unique; the one of `Enum` is slow, and asked for with every value

    STRING = "a string"
    BOOLEAN = "true or false"
    INTEGER = "an integer"
    ENUM = "a name, or its number"
    NUMBER = "a number"
    DURATION = 'a duration such as "60s"'
    STRINGS = "a list of strings"
    INTEGERS = "a list of integers"
    STRING_MAP = "an object of strings"
    OBJECT = "an object"
    OBJECTS = "a list of objects"
    CODE = "a list of paths, or an object from mount point to path"
    METRICS = "a list of files or objects"
    ANY = "any value"


class Disposition(Enum):
    """What becomes of a field."""

    SUPPORTED = "supported"
    IGNORED = "means nothing without Pachyderm's cluster: accepted with a notice"
    NEVER = "refused for good: an error"
    REMOVED = "a field of Pachyderm 1.x: an error that names its replacement"


@record(kw_only=True)
class Field:
    """One field of one object."""

    kind: Kind = Kind.ANY
    disposition: Disposition = Disposition.SUPPORTED
    about: str
    """Supported: what it means. Otherwise: why it is not (to follow the place and a colon)."""
    hint: str | None = None
    """What to do instead."""
    object: str | None = None
    """Name in `OBJECTS` of the object that stands here."""
    harmless: tuple[str, ...] = ()
    """Values that mean the same as leaving the field out, besides false, 0, "" and an empty list."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """More that the JSON Schema can say of the value."""


def _object(name: str, about: str) -> Field:
    return Field(kind=Kind.OBJECT, object=name, about=about)


def _ignored(kind: Kind, about: str, of: str | None = None) -> Field:
    return Field(kind=kind, disposition=Disposition.IGNORED, about=about, object=of)


def _never(about: str, hint: str, *harmless: str) -> Field:
    return Field(disposition=Disposition.NEVER, about=about, hint=hint, harmless=harmless)


def _enum(about: str, *names: str) -> Field:
    return Field(kind=Kind.ENUM, about=about, schema={"enum": [*names, *range(len(names))]})


def _removed(hint: str) -> Field:
    return Field(disposition=Disposition.REMOVED, about="a field of Pachyderm 1.x, removed since", hint=hint)


_PIPELINE = {
    "name": Field(
        kind=Kind.STRING,
        about="Name of the stage, and of its output directory. Letters, digits, '_', '-', '.'; '/' between parts.",
        schema={"pattern": f"^{STAGE_NAME}$", "maxLength": LONGEST_NAME},
    ),
    "project": _object("project", "Namespace: stage and output are called '<project>/<name>'."),
}

_PROJECT = {
    "name": Field(
        kind=Kind.STRING,
        about="Name of the project, a directory of the repository; 'default' is none.",
        schema={"pattern": f"^{PROJECT_NAME}$|^$", "maxLength": LONGEST_NAME},
    ),
}

_PARALLELISM = {
    "constant": Field(
        kind=Kind.INTEGER, about="Number of datums that are processed at the same time.", schema={"minimum": 0}
    ),
    "strategy": _removed("use 'constant'"),
    "coefficient": _removed("use 'constant'"),
}

_STAGE = {
    "pipeline": _object("pipeline", "What the stage is called."),
    "description": Field(kind=Kind.STRING, about="What the stage does, for people."),
    "transform": _object("transform", "How the stage runs its code."),
    "input": _object("input", "What the stage reads; without it the command runs once, without inputs."),
    "parallelism_spec": _object("parallelism_spec", "How many datums are processed at the same time."),
    "executor": Field(
        kind=Kind.STRING,
        about="Where datums are computed: 'local', or on a Dask cluster; the option --executor comes first.",
        schema={"enum": ["local", "dask"]},
    ),
    "datum_tries": Field(
        kind=Kind.INTEGER, about="Attempts at a datum before it counts as failed; 3 unless told.", schema={"minimum": 0}
    ),
    "datum_timeout": Field(kind=Kind.DURATION, about='Time after which an attempt at a datum is stopped: "60s".'),
    "salt": Field(kind=Kind.STRING, about="Any text; a new one makes every datum be computed again."),
    "output": Field(
        kind=Kind.STRING, about="Directory of the repository that the results go to; the stage's name unless told."
    ),
    "code": Field(
        kind=Kind.CODE,
        about="Files and directories of the repository that the command needs: paths, or objects from mount point to "
        "path. Unless told: the tracked files named in 'cmd', 'stdin' and 'err_cmd'.",
    ),
    "params": Field(
        kind=Kind.STRINGS, about='Parameters that the stage depends on: "params.yaml" or "params.yaml:train.alpha".'
    ),
    "metrics": Field(
        kind=Kind.METRICS,
        object="metric",
        about="Files of numbers among the results, relative to the output directory, and how to judge them.",
    ),
    "predictions": Field(
        kind=Kind.OBJECTS,
        object="predictions",
        about="Tables of predictions among the results, which 'git ml diff' compares example by example.",
    ),
    "leakage": Field(
        kind=Kind.OBJECTS,
        object="leakage",
        about="Pairs of tables, to train and to test on, that must not share rows; 'git ml diff' counts those they do.",
    ),
    "plots": Field(
        kind=Kind.METRICS,
        object="plot",
        about="Images among the results, and columns of tables that 'git ml diff' draws, old and new over each other.",
    ),
    "egress": _object("egress", "Where the results are copied to once they are committed."),
    "output_branch": Field(
        kind=Kind.STRING,
        about="What inputs call the branch of these results; those that read 'master' of them instead are put off.",
    ),
    "s3_out": _never("not supported: there is no S3 gateway", "write to /pfs/out"),
    "service": _never(
        "not supported: a run ends, a server does not",
        "start the server by hand, on the files of the branch",
    ),
    "spout": _never(
        "not supported: a run ends, a producer does not",
        "let the producer commit files where the other stages read them",
    ),
    "job_timeout": Field(kind=Kind.DURATION, about='Time after which a run of the stage is stopped: "2h".'),
    "reprocess_spec": Field(
        kind=Kind.STRING,
        about="'every_job': when the stage runs, every datum is computed again. 'until_success' is the default.",
        schema={"enum": ["until_success", "every_job"]},
    ),
    "resource_requests": _object("resources", "What a task needs: decides how many run at once."),
    "resource_limits": _object("resources", "What a task may take at most."),
    "sidecar_resource_requests": _ignored(Kind.OBJECT, "there is no sidecar", "resources"),
    "sidecar_resource_limits": _ignored(Kind.OBJECT, "there is no sidecar", "resources"),
    "datum_set_spec": _ignored(
        Kind.OBJECT, "datums are handed out one by one, or by the time they take", "datum_set_spec"
    ),
    "autoscaling": _ignored(Kind.BOOLEAN, "there are no pods to scale"),
    "scheduling_spec": _ignored(Kind.OBJECT, "there are no pods to place", "scheduling_spec"),
    "tolerations": _ignored(Kind.OBJECTS, "there are no pods to place", "toleration"),
    "pod_patch": _ignored(Kind.STRING, "there are no pods"),
    "metadata": _ignored(Kind.OBJECT, "there are no Kubernetes objects to label", "metadata"),
    "maximum_expected_uptime": _ignored(Kind.DURATION, "there are no workers that stay up"),
    "update": _ignored(Kind.BOOLEAN, "it belongs to a request to pachd"),
    "reprocess": _ignored(Kind.BOOLEAN, "it belongs to a request to pachd; change 'salt' to compute everything again"),
    "dry_run": _ignored(Kind.BOOLEAN, "it belongs to a request to pachd"),
    "spec_commit": _ignored(Kind.ANY, "it belongs to a request to pachd"),
    "pod_spec": _never("not supported: there are no pods to patch", "take it out"),
    "determined": _never("not supported: gitml creates no users elsewhere", "take it out"),
    "tf_job": _never("not supported: Pachyderm refuses it as well", "run the training as the command of the stage"),
    "inputs": _removed("use 'input' with 'cross', and a 'glob' in place of 'method'"),
    "parallelism": _removed("use 'parallelism_spec': {\"constant\": 1}"),
    "chunk_spec": _removed("use 'datum_set_spec'"),
    "standby": _removed("use 'autoscaling'"),
    "scale_down_threshold": _removed("use 'autoscaling'"),
    "no_skip": _removed("use 'reprocess_spec'"),
    "enable_stats": _removed("take it out; statistics are always kept"),
    "incremental": _removed("take it out; finished datums are always reused"),
    "batch": _removed("take it out"),
    "cache_size": _removed("take it out"),
    "max_queue_size": _removed("take it out"),
    "hashtree_spec": _removed("take it out"),
    "gc_policy": _removed("take it out"),
    "no_archive": _removed("take it out"),
    "resource_spec": _removed("use 'resource_requests' and 'resource_limits'"),
}

_TRANSFORM = {
    "image": Field(
        kind=Kind.STRING,
        about="Container image, run as such unless 'images' says what stands for it. Without one the host is used.",
    ),
    "cmd": Field(
        kind=Kind.STRINGS, about="The command and its arguments, run without a shell.", schema={"minItems": 1}
    ),
    "stdin": Field(kind=Kind.STRINGS, about="Lines given to the command as standard input."),
    "err_cmd": Field(kind=Kind.STRINGS, about="Run when the command fails; if it succeeds the datum is set aside."),
    "err_stdin": Field(kind=Kind.STRINGS, about="Lines given to 'err_cmd' as standard input."),
    "env": Field(kind=Kind.STRING_MAP, about="Environment variables of the command."),
    "accept_return_code": Field(kind=Kind.INTEGERS, about="Return codes that mean success, besides 0."),
    "working_dir": Field(
        kind=Kind.STRING, about="Directory in which the command runs; the top of the workspace unless told."
    ),
    "secrets": Field(
        kind=Kind.OBJECTS, object="secret", about="Secrets of this clone that the command gets: git ml secret set."
    ),
    "datum_batching": Field(
        kind=Kind.BOOLEAN,
        about="Whether the command is started once for many datums, and asks for each with 'pachctl next datum'.",
    ),
    "image_pull_secrets": _ignored(Kind.STRINGS, "container engines have their own logins"),
    "user": Field(
        kind=Kind.STRING,
        about="User, and group after a colon, that commands run as under bubblewrap; elsewhere they run as you.",
    ),
    "debug": Field(kind=Kind.BOOLEAN, about="Whether logs tell how each command was started and what it took."),
    "memory_volume": Field(kind=Kind.BOOLEAN, about="Whether workspaces lie in memory, where they fit."),
    "dockerfile": _ignored(Kind.STRING, "no image is built"),
    "build": _removed("name what the command needs in 'code'"),
    "overwrite": _removed("take it out; the output always holds exactly the results of the current datums"),
}

_INPUT = {
    "pfs": _object("pfs", "Files of the repository or of an upstream stage."),
    "cross": Field(
        kind=Kind.OBJECTS,
        object="input",
        about="Every combination of one datum from each input.",
        schema={"minItems": 1},
    ),
    "union": Field(
        kind=Kind.OBJECTS,
        object="input",
        about="The datums of all inputs, one after the other.",
        schema={"minItems": 1},
    ),
    "join": Field(
        kind=Kind.OBJECTS,
        object="input",
        about="Every combination of one datum from each input for which 'join_on' gives the same text.",
        schema={"minItems": 1},
    ),
    "group": Field(
        kind=Kind.OBJECTS,
        object="input",
        about="One datum for each text that 'group_by' gives, of all the files that give it.",
        schema={"minItems": 1},
    ),
    "cron": _object("cron", "Empty files called by the time, which 'git ml cron' commits when it has come."),
    "atom": _removed("use 'pfs'"),
    "git": _removed("use 'pfs': the repository itself is the input"),
}

_PFS = {
    "repo": Field(kind=Kind.STRING, about="Name of an upstream stage, or path of a directory of this repository."),
    "name": Field(
        kind=Kind.STRING, about="The command sees the files in /pfs/<name>; the last part of 'repo' unless told."
    ),
    "glob": Field(kind=Kind.STRING, about="What one datum is: '/' everything, '/*' each entry of the top directory."),
    "branch": Field(
        kind=Kind.STRING,
        about="Git branch whose tip has the files; 'master' stands for the commit being evaluated.",
    ),
    "repo_type": _never(
        "not supported: there are no repositories of specifications and of datums, git and the run cache hold both",
        "take it out; git ml ls datums STAGE and git ml show PATH say what they said",
        "user",
    ),
    "project": Field(kind=Kind.STRING, about="Project of 'repo'; that of the stage unless told. 'default' is none."),
    "commit": Field(kind=Kind.STRING, about="Commit that has the files, by oid or tag: they never change."),
    "join_on": Field(
        kind=Kind.STRING,
        about="What a join matches: '$1' stands for what the first group in parentheses of 'glob' matched.",
    ),
    "outer_join": Field(kind=Kind.BOOLEAN, about="Whether a join keeps files of this input that match nothing."),
    "group_by": Field(kind=Kind.STRING, about="What a group puts together, written as 'join_on'."),
    "lazy": Field(kind=Kind.BOOLEAN, about="Files are brought without copying in any case, so it changes nothing."),
    "empty_files": Field(
        kind=Kind.BOOLEAN,
        about="Whether files are empty for the command; a link to one from /pfs/out brings the whole content.",
    ),
    "s3": _never("not supported: there is no S3 gateway", "read the files from /pfs/<name>"),
    "trigger": _object("trigger", "Which changes of this input run the stage."),
    "propagation_spec": _object("propagation_spec", "Which changes of this input run the stage."),
    "reference": Field(
        kind=Kind.BOOLEAN, about="Whether the content of this input plays no part in what is computed again."
    ),
    "from_commit": _removed("take it out; what was processed once is not processed again"),
}

_RESOURCES = {
    "cpu": Field(kind=Kind.NUMBER, about="Cores.", schema={"minimum": 0}),
    "memory": Field(kind=Kind.STRING, about='Bytes, with a unit: "64M", "1.5Gi".'),
    "disk": Field(kind=Kind.STRING, about='Bytes, with a unit: "64M", "1.5Gi".'),
    "gpu": _object("gpu", "Graphics processors."),
}

_METRIC = {
    "path": Field(kind=Kind.STRING, about="JSON, YAML or TOML file, relative to the output directory."),
    "name": Field(kind=Kind.STRING, about="Dotted key of one number in the file; every number unless told."),
    "goal": Field(kind=Kind.STRING, about="Which direction is better.", schema={"enum": ["max", "min"]}),
    "tolerance": Field(kind=Kind.NUMBER, about="Changes up to this size are not changes.", schema={"minimum": 0}),
    "noise": Field(
        kind=Kind.STRING, about="Dotted key of the number's standard error: changes within twice that are chance."
    ),
    "gate": _object("gate", "Bounds of what is acceptable."),
}

_PREDICTIONS = {
    "path": Field(kind=Kind.STRING, about="Table with a row for each example, relative to the output directory."),
    "id": Field(kind=Kind.STRING, about="Column that tells examples apart."),
    "prediction": Field(kind=Kind.STRING, about="Column with what was predicted: a class, or a number."),
    "label": Field(kind=Kind.STRING, about="Column with what is true."),
    "labels": _object("labels", "Table that has the column 'label', if it is another one."),
    "score": Field(kind=Kind.STRING, about="Column that says how sure the prediction is: more is surer."),
    "slices": Field(
        kind=Kind.STRINGS, about="Columns that part the examples into groups, in either table: each is compared."
    ),
}

_PLOT = {
    "path": Field(kind=Kind.STRING, about="Table among the results, relative to the output directory."),
    "x": Field(kind=Kind.STRING, about="Column of numbers across; the number of the row unless told."),
    "y": Field(kind=Kind.STRINGS, about="Columns of numbers that are drawn as lines.", schema={"minItems": 1}),
    "title": Field(kind=Kind.STRING, about="What the plot is called; the path unless told."),
}

_DOCUMENT = {
    "$schema": Field(kind=Kind.STRING, about="Where an editor finds the JSON Schema."),
    "stages": Field(about="The stages: specifications, or paths or globs of files that hold some."),
    "defaults": _object("stage", "Fields of every stage that does not say otherwise."),
    "images": Field(about="What stands for a container image on this machine, by the name of the image."),
    "executor": Field(
        kind=Kind.STRING,
        about="Where datums of stages that do not say it themselves are computed.",
        schema={"enum": ["local", "dask"]},
    ),
}

OBJECTS: Mapping[str, Mapping[str, Field]] = {
    "document": _DOCUMENT,
    "stage": _STAGE,
    "pipeline": _PIPELINE,
    "project": _PROJECT,
    "transform": _TRANSFORM,
    "input": _INPUT,
    "pfs": _PFS,
    "parallelism_spec": _PARALLELISM,
    "metric": _METRIC,
    "predictions": _PREDICTIONS,
    "plot": _PLOT,
    "labels": {
        "path": Field(kind=Kind.STRING, about="Table of the repository."),
        "id": Field(
            kind=Kind.STRING, about="Its column that tells examples apart; the 'id' of the predictions unless told."
        ),
    },
    "leakage": {
        "train": Field(kind=Kind.STRING, about="Table of the repository that is trained on."),
        "test": Field(kind=Kind.STRING, about="Table of the repository that is tested on."),
        "columns": Field(
            kind=Kind.STRINGS, about="Rows are the same if these columns are; all that both have unless told."
        ),
    },
    "gate": {
        "min": Field(kind=Kind.NUMBER, about="Least acceptable value."),
        "max": Field(kind=Kind.NUMBER, about="Greatest acceptable value."),
    },
    "image": {
        "code": Field(kind=Kind.CODE, about="Stands for the files in the image, as the field 'code' of a stage."),
        "working_dir": Field(kind=Kind.STRING, about="Stands for the working directory of the image."),
        "archive": Field(
            kind=Kind.STRING,
            about="The image itself: path of an OCI or 'docker save' archive, or of a directory with an OCI layout.",
        ),
        "container": Field(kind=Kind.BOOLEAN, about="Whether docker, podman or apptainer run it all the same."),
        "digest": Field(kind=Kind.STRING, about="Which image the name must mean: 'sha256:' and 64 hex digits."),
    },
    "cron": {
        "name": Field(kind=Kind.STRING, about="The command sees the ticks in /pfs/<name>."),
        "spec": Field(kind=Kind.STRING, about='When it ticks, in UTC: "0 3 * * *", "@hourly", "@every 10m", "@never".'),
        "repo": Field(kind=Kind.STRING, about="Directory of the ticks; '<stage>_<name>' unless told."),
        "start": Field(
            kind=Kind.STRING, about='When it begins, such as "2026-01-01T00:00:00Z"; when the input came unless told.'
        ),
        "overwrite": Field(kind=Kind.BOOLEAN, about="Whether a tick replaces those before it."),
        "project": Field(kind=Kind.STRING, about="Project of the ticks; that of the stage unless told."),
        "commit": _ignored(Kind.STRING, "Pachyderm's server fills it in"),
    },
    "trigger": {
        "branch": Field(kind=Kind.STRING, about="Git branch that is watched, as 'branch' of the input."),
        "all": Field(kind=Kind.BOOLEAN, about="Whether every condition must hold; one is enough unless told."),
        "size": Field(kind=Kind.STRING, about='Bytes that the input must have grown by: "100MB".'),
        "commits": Field(kind=Kind.INTEGER, about="Commits that must have touched the input.", schema={"minimum": 0}),
        "rate_limit_spec": Field(kind=Kind.STRING, about="Schedule: at most one change counts between two ticks."),
        "cron_spec": Field(kind=Kind.STRING, about="Schedule: a change counts from the next tick on."),
    },
    "propagation_spec": {
        "never": Field(kind=Kind.BOOLEAN, about="Whether a change of this input alone runs nothing."),
    },
    "egress": {
        "URL": Field(
            kind=Kind.STRING,
            about='Directory or object storage: "/srv/models", "s3://bucket/models", "gs://…", "az://container/…".',
            schema={"pattern": PLACE},
        ),
        "object_storage": _object("object_storage", "The same, as newer specifications write it."),
        "sql_database": _never(
            "not supported: a database has no versions that a revert could bring back",
            "write to it in the command of a stage, with 'secrets' and ml.network, or load it from an egress of files",
        ),
    },
    "object_storage": {
        "url": Field(kind=Kind.STRING, about="As 'URL' of 'egress'.", schema={"pattern": PLACE}),
    },
    "resources": _RESOURCES,
    "gpu": {
        "type": Field(kind=Kind.STRING, about="Kind of device."),
        "number": Field(kind=Kind.INTEGER, about="How many."),
    },
    "secret": {
        "name": Field(kind=Kind.STRING, about="Name of the secret."),
        "mount_path": Field(kind=Kind.STRING, about="Directory in which the command finds a file for each key."),
        "env_var": Field(kind=Kind.STRING, about="Environment variable that holds the value of 'key'."),
        "key": Field(kind=Kind.STRING, about="Key of the secret."),
    },
    "datum_set_spec": {
        "number": Field(kind=Kind.INTEGER, about="Datums in a set."),
        "size_bytes": Field(kind=Kind.INTEGER, about="Bytes in a set."),
        "per_worker": Field(kind=Kind.INTEGER, about="Sets for each worker."),
    },
    "scheduling_spec": {
        "node_selector": Field(kind=Kind.STRING_MAP, about="Labels of the node."),
        "priority_class_name": Field(kind=Kind.STRING, about="Priority class."),
    },
    "toleration": {
        "key": Field(kind=Kind.STRING, about="Key of the taint."),
        "operator": _enum("How the value is compared.", "EMPTY", "EXISTS", "EQUAL"),
        "value": Field(kind=Kind.STRING, about="Value of the taint."),
        "effect": _enum("Effect of the taint.", "ALL_EFFECTS", "NO_SCHEDULE", "PREFER_NO_SCHEDULE", "NO_EXECUTE"),
        "toleration_seconds": Field(kind=Kind.INTEGER, about="For how long."),
    },
    "metadata": {
        "annotations": Field(kind=Kind.STRING_MAP, about="Annotations."),
        "labels": Field(kind=Kind.STRING_MAP, about="Labels."),
    },
}
"""Fields by object. `$schema` may stand in a stage too; it is dropped before."""

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "pipeline": ("name",),
    "pfs": ("repo", "glob"),
    "cron": ("name", "spec"),
    "secret": ("name",),
    "metric": ("path",),
    "predictions": ("path", "id", "prediction"),
    "labels": ("path",),
    "plot": ("path", "y"),
    "leakage": ("train", "test"),
}
"""Fields that an object must hold once `defaults` are merged in."""


def camel(name: str) -> str:
    """The camelCase twin of a field name, as protobuf's JSON mapping derives it."""
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)
