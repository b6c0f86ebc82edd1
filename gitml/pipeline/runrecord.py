"""What a run notes of the machine it ran on: interpreters and the versions of libraries that results depend on."""

import json
import platform
import shutil
import subprocess
from functools import lru_cache
from typing import Any

_LIBRARIES = ("numpy", "scipy", "scikit-learn", "pandas", "polars", "torch", "tensorflow", "jax", "xgboost", "lightgbm")

_ASK = (
    "import importlib.metadata as m, json, platform, sys\n"
    "def v(n):\n"
    "    try: return m.version(n)\n"
    "    except m.PackageNotFoundError: return None\n"
    "print(json.dumps({'python': platform.python_version(), 'executable': sys.executable,"
    " 'libraries': {n: v(n) for n in sys.argv[1:] if v(n)}}))"
)


@lru_cache(maxsize=1)
def describe_environment() -> dict[str, Any]:
    """System, processor, and what `python3` on PATH is: the interpreter that tasks get, with its libraries."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": _python(),
    }


def _python() -> dict[str, Any] | None:
    found = shutil.which("python3")
    if found is None:
        return None
    try:
        # -I: neither the current directory nor the user's environment takes part
        done = subprocess.run(
            [found, "-I", "-c", _ASK, *_LIBRARIES],
            capture_output=True,
            check=True,
            timeout=20,
            stdin=subprocess.DEVNULL,
        )
        described = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return {"executable": found}
    return described if isinstance(described, dict) else None
