"""From a commit to what must run, and from a run to results: specification, datums, keys, plan, execution."""

FILE = "pipeline.json"
"""Where a repository has its pipeline."""
