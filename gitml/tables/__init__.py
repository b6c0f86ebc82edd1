"""How two versions of a table differ: rows, columns and distributions, for files that do not fit into memory."""
