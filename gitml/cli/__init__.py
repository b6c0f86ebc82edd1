"""The `git ml` command: one file a command; parse, call one function of the library, show its value."""
