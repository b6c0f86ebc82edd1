"""Existing repositories in and out: plain git, git-lfs and DVC; one commit or the whole history."""
