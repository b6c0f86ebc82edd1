"""The environment variables of a task: nothing of the user's but what is listed here.

An inherited variable is an undeclared input, and some are secrets; so a task starts from nothing. What
Pachyderm sets for the code of a datum is set here too, under its names.
"""

import os
import re
from collections.abc import Iterable, Mapping

from gitml.pipeline.datum import Datum, DatumInput
from gitml.pipeline.spec.model import Stage

_KEPT = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH"})
_KEPT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "OMP_", "SSL_CERT_")
_KEPT_SUFFIX = "_NUM_THREADS"
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|(^|_)KEY($|_)|APIKEY", re.IGNORECASE)

RESERVED = frozenset({"PATH", "HOME", "TMPDIR", "PWD", "LD_LIBRARY_PATH"})
"""What an input or a specification must not take: where commands and private directories are."""


def inherited_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a task may see of the runner's own variables: search path, language, threads, GPUs, certificates."""
    kept = {
        name: value
        for name, value in environ.items()
        if (name in _KEPT or name.startswith(_KEPT_PREFIXES) or name.endswith(_KEPT_SUFFIX))
        and not _SECRET.search(name)
    }
    kept.setdefault("PATH", os.defpath)
    return kept


def names_of_datum(inputs: Iterable[DatumInput]) -> set[str]:
    """The variables that `task_environment` sets for a datum with these inputs, and that are others for another."""
    names = {"PACH_JOB_ID", "PACH_OUTPUT_COMMIT_ID", "PACH_DATUM_ID"}
    for item in inputs:
        names |= {item.name, f"{item.name}_COMMIT"}
        names |= {f"PACH_DATUM_{item.name}_JOIN_ON", f"PACH_DATUM_{item.name}_GROUP_BY"}
    return names - RESERVED


def task_environment(
    stage: Stage,
    datum: Datum,
    *,
    environ: Mapping[str, str],
    datum_id: str,
    job_id: str,
    commits: Mapping[str, str] | None = None,
    image: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The variables of a task, as it sees them below a real `/pfs`.

    `environ` is the runner's own environment, `job_id` names the run, `commits` gives the commit of an input by
    its name, `image` the variables of a container image, which take the place of the runner's. HOME, TMPDIR and PWD
    are added where the place of the task is known. Names: Pachyderm's `src/internal/client/pps.go` and
    `src/server/worker/driver/driver.go`.
    """
    if image is None:
        result = inherited_environment(environ)
    else:  # what names places of the host means nothing there
        result = {**image, **{name: value for name, value in environ.items() if name.endswith(_KEPT_SUFFIX)}}
    result["PYTHONDONTWRITEBYTECODE"] = "1"
    asked = dict(stage.transform.env)
    for item in datum.inputs:
        below = b"/" + item.path if item.path else b""
        asked[item.name] = f"/pfs/{item.name}" + os.fsdecode(below)
        if item.join_on is not None:
            asked[f"PACH_DATUM_{item.name}_JOIN_ON"] = item.join_on
        if item.group_by is not None:
            asked[f"PACH_DATUM_{item.name}_GROUP_BY"] = item.group_by
        if commits and item.name in commits:
            asked[f"{item.name}_COMMIT"] = commits[item.name]
    asked |= {
        "PACH_JOB_ID": job_id,
        "PACH_OUTPUT_COMMIT_ID": job_id,
        "PACH_DATUM_ID": datum_id,
        "PPS_PIPELINE_NAME": stage.name.removeprefix(f"{stage.project}/"),
        "PPS_PROJECT_NAME": stage.project or "default",
    }
    own = dict(stage.transform.env)
    result |= {
        name: value for name, value in asked.items() if "=" not in name and (name not in RESERVED or name in own)
    }
    # An input called PATH must not end the search for commands, yet a specification may set it on purpose.
    return result | {name: own[name] for name in RESERVED & own.keys()}
