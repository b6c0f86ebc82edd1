"""`pipeline.json`: Pachyderm's pipeline specification, parsed into values and checked."""

from gitml.pipeline.spec.error import Place, SpecError
from gitml.pipeline.spec.load import load_pipeline
from gitml.pipeline.spec.model import Pipeline, Stage

__all__ = ["Pipeline", "Place", "SpecError", "Stage", "load_pipeline"]
