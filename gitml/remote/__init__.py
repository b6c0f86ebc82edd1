"""Git repositories in object storage: `git-remote-ml` and what looks after its stores."""
