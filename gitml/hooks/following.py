"""What hooks do when nothing is to be done on a branch itself: have those looked at that read it."""

from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.pipeline.followers import branch_that_may_have_readers
from gitml.pipeline.launch import runs_by_itself, start_runner
from gitml.pipeline.lease import Lease
from gitml.pipeline.trust import Level, Trust


def follow(repo: Repository, odb: GitOdb) -> None:
    """Have the runner look at branches that read this one; nothing is to be done on this one itself."""
    if Trust(repo).level is Level.NEVER or not runs_by_itself(repo):
        return
    branch = branch_that_may_have_readers(repo, odb)
    if branch is None:
        return
    lease = Lease(repo)
    lease.request(branch)
    if not lease.is_held():
        start_runner(repo)
