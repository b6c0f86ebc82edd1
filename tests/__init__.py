"""The tests: a package, so that a `tests` among installed packages does not stand in for it in processes they start."""
