"""The filter that git runs on `git add` and `git checkout`."""
