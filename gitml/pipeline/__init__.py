"""From a commit to what must run, and from a run to results: specification, datums, keys, plan, execution."""
