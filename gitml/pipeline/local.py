"""The tasks of a stage on this machine: as many at once as the stage and the machine allow."""

import os
import time
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from gitml.errors import GitmlError, MissingDataError
from gitml.pipeline.batch import Processes
from gitml.pipeline.environment import task_environment
from gitml.pipeline.executor import Ended, ExecutorError, Facts, Task, Work
from gitml.pipeline.images import Sandboxes
from gitml.pipeline.limits import Allotment, Machine, Means
from gitml.pipeline.livelogs import note_task
from gitml.pipeline.rhythm import Rhythm
from gitml.pipeline.secretstore import Granted, SecretStore
from gitml.pipeline.supply import Supply
from gitml.pipeline.task import TaskStoppedError
from gitml.pipeline.turns import Turn, Turns, ready_ahead
from gitml.pipeline.view import Sandbox
from gitml.pipeline.volume import memory_needed, workspaces_at
from gitml.pipeline.workspace import Workspace, Workspaces
from gitml.store.odb import ObjectReader


class LocalExecutor:
    """Computes tasks in processes of this machine, in one of `sandboxes`; their workspaces lie at `place`.

    `supply` fetches content of inputs that is not here.
    With `fail_fast` no task starts any more once one has failed.
    """

    def __init__(
        self,
        odb: ObjectReader,
        sandboxes: Sandboxes,
        secrets: SecretStore,
        place: Path,
        supply: Supply,
        *,
        fail_fast: bool,
    ) -> None:
        self.facts = Facts()
        self._odb = odb
        self._sandboxes = sandboxes
        self._secrets = secrets
        self._place = place
        self._supply = supply
        self._fail_fast = fail_fast

    def run(self, work: Work, tasks: Iterable[Task]) -> Generator[list[Ended], None, None]:
        """Compute `tasks`, which are taken when there is room for them; give those that ended, in batches.

        Raise `ExecutorError` where another machine may have what this one lacks: a secret, an image.
        """
        stage = work.stage
        try:
            granted = self._secrets.grant(stage)
            sandbox = self._sandboxes.of(stage, work.snapshot)
        except GitmlError as error:
            raise ExecutorError(error.message, hint=error.hint) from None
        memory = None
        if stage.transform.memory_volume:
            tasks = list(tasks)
            inputs = (task.datum.inputs for task in tasks)
            memory = memory_needed(inputs, self._odb, work.parallel or stage.parallelism, stage.limits.disk or 0)
        self.facts.sandboxes.add(sandbox.name)
        means = Means.of(stage.limits, sandbox.name, sandbox.holds)
        self.facts.means.update(means.used)
        self._notice([f"'resource_limits.{name}' is not enforced here" for name in means.missing])
        with workspaces_at(self._place, self._odb, memory=memory) as workspaces:
            yield from self._run_in(work, tasks, workspaces, sandbox, granted)

    def _notice(self, sentences: Iterable[str]) -> None:
        self.facts.notices.update(dict.fromkeys(sentences))

    def _run_in(
        self, work: Work, tasks: Iterable[Task], workspaces: Workspaces, sandbox: Sandbox, granted: Granted
    ) -> Generator[list[Ended], None, None]:
        stage = work.stage
        mounts = [mount.target for mount in stage.code or ()]
        inherited = dict(os.environ)
        allotment = Allotment(Machine.here(inherited))
        self._notice(allotment.notices(stage))
        width = allotment.width(stage, work.parallel)
        waiting = iter(tasks)
        rhythm = Rhythm(width)
        ahead = ready_ahead(stage)
        has_failed = False

        def is_over() -> bool:
            return has_failed or work.is_over()

        turns = Turns(width, is_over=is_over, stopped=TaskStoppedError)
        with (
            Processes() as processes,
            ThreadPoolExecutor(max_workers=width + ahead, thread_name_prefix="task") as pool,
        ):

            def start(task: Task, turn: Turn) -> Ended:
                nonlocal has_failed
                try:
                    ended = compute(task, turn)
                    has_failed |= self._fail_fast and ended.has_failed
                    return ended
                finally:
                    turn.end()

            def compute(task: Task, turn: Turn) -> Ended:
                began = time.monotonic()
                log = work.logs / f"{task.key}.log"
                if is_over():
                    return Ended(task, None, TaskStoppedError(), log, 0.0)
                note_task(log, stage.name, task.datum.label)

                create = workspaces.maker(task.datum.inputs, work.code, work.files, mounts)

                def make(*, inputs: bool = True, code: bool = True) -> Workspace:
                    try:
                        return create(inputs=inputs, code=code)
                    except MissingDataError:
                        if not self._supply.is_wanted:
                            raise
                        self._supply.bring()
                        return create(inputs=inputs, code=code)

                environment = task_environment(
                    stage, task.datum, environ=inherited, datum_id=task.datum.id, job_id=work.run,
                    commits=work.commits, image=sandbox.image,
                )  # fmt: skip
                try:
                    with allotment.share(stage) as share:
                        outcome = processes.run_task(
                            stage,
                            make=make,
                            sandbox=sandbox,
                            environment=environment,
                            log=log,
                            share=share,
                            granted=granted,
                            stop=work.stop,
                            turn=turn,
                        )
                except GitmlError as error:
                    return Ended(task, None, error, log, time.monotonic() - began)
                return Ended(task, outcome, None, log, time.monotonic() - (turn.began or began))

            running: set[Future[Ended]] = set()
            ended: list[Ended] = []
            while True:
                while len(running) < width + max(rhythm.ahead, ahead) and not is_over():
                    task = next(waiting, None)
                    if task is None:
                        break
                    running.add(pool.submit(start, task, turns.take()))
                if not running and not ended:
                    return
                done, running = wait(running, rhythm.left(len(ended)) if ended else None, FIRST_COMPLETED)
                ended += [future.result() for future in done]
                for future in done:
                    rhythm.ended(future.result().seconds)
                if not running or rhythm.left(len(ended)) == 0:
                    with rhythm.record():
                        yield ended
                    ended = []
