"""`pipeline.json`: Pachyderm's pipeline specification, parsed into values and checked."""
