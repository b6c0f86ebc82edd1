"""`pipeline.json`: Pachyderm's pipeline specification, parsed into values and checked."""

from gitml.pipeline.spec.error import Place, SpecError
from gitml.pipeline.spec.load import load_pipeline

__all__ = ["Place", "SpecError", "load_pipeline"]
