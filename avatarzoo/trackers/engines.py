"""Where clips are tracked: processes of this machine, or Ray on one machine or many."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from avatarzoo.errors import UsageError
from avatarzoo.optional import require
from avatarzoo.trackers.many import ATTEMPTS, Outcome, Task, lost, track_clip

CLIPS_A_PROCESS = 100
"""Clips after which a process is replaced, so that nothing a library leaks adds up."""
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
"""Of a worker: there are as many workers as cores."""


# ---- processes of this machine ------------------------------------------------------------------------------------------------


def serve(connection: Connection) -> None:
    """A worker's life: tasks in, outcomes out, until it is told to stop or the other side is gone."""
    with suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        while (task := connection.recv()) is not None:
            connection.send(track_clip(task))


class Worker:
    """A process and the task it has; ``task`` is None while it waits."""

    def __init__(self, target: Any = serve) -> None:
        # forks of a server that has imported everything and run nothing: started in no time, memory shared
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if forks else "spawn")
        context.set_forkserver_preload(["avatarzoo.trackers.many"])
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=target, args=(theirs,), daemon=True)
        self.task: tuple[Task, int] | None = None
        self.done = 0
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the connection

    def give(self, task: Task, attempt: int) -> None:
        self.task = task, attempt
        with suppress(BrokenPipeError):  # it died while waiting; the loop finds out
            self.connection.send(task)

    def stop(self, kill: bool = False) -> None:
        with suppress(OSError):
            self.connection.send(None)
        if kill:
            self.process.kill()
        self.process.join()
        self.connection.close()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for processes that are started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


class LocalEngine:
    """Processes of this machine, each with one clip at a time; the clip of one that dies is begun again by another.

    Args:
        workers: how many; 0: as many as cores this process may use.
        target: what a worker does (tests replace it).
    """

    def __init__(self, workers: int = 0, target: Any = serve) -> None:
        self.count, self.target = workers or usable_cores(), target
        self.workers: list[Worker] = []

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        waiting = deque((task, 1) for task in tasks)
        try:
            self.workers = [self.hire() for _ in range(min(self.count, len(waiting)))]
            for worker in self.workers:
                worker.give(*waiting.popleft())
            while busy := [w for w in self.workers if w.task is not None]:
                for connection in wait([w.connection for w in busy]):
                    worker = next(w for w in busy if w.connection is connection)
                    outcome = self.result(worker, waiting)
                    if outcome is not None:
                        yield outcome
                    self.go_on(worker, waiting)
        finally:
            for worker in self.workers:
                worker.stop(kill=worker.task is not None)

    def hire(self) -> Worker:
        with environment(ONE_THREAD):
            return Worker(self.target)

    def result(self, worker: Worker, waiting: deque[tuple[Task, int]]) -> Outcome | None:
        """What a worker has to say; None where it died and its clip is begun again."""
        assert worker.task is not None
        task, attempt = worker.task
        worker.task = None
        try:
            outcome = worker.connection.recv()
        except (EOFError, OSError):
            worker.stop(kill=True)
            self.workers.remove(worker)
            if attempt >= ATTEMPTS:
                return lost(task, attempt)
            waiting.appendleft((task, attempt + 1))
            return None
        worker.done += 1
        return outcome._replace(attempts=attempt)

    def go_on(self, worker: Worker, waiting: deque[tuple[Task, int]]) -> None:
        """The next task for a worker, or for the one that replaces it."""
        if not waiting:
            return
        if worker not in self.workers or worker.done >= CLIPS_A_PROCESS:
            if worker in self.workers:
                self.workers.remove(worker)
                worker.stop()
            self.workers.append(worker := self.hire())
        worker.give(*waiting.popleft())


# ---- Ray ----------------------------------------------------------------------------------------------------------------------


class RayEngine:
    """Ray's workers, on this machine or on all machines of a cluster, which must see clips and results under the same paths.

    A worker has one core. Ray begins the clip of a worker or machine that dies again elsewhere.

    Args:
        address: of a running cluster (``auto``, ``host:6379``); None: start Ray on this machine for the time of the run.
        workers: clips in work at a time; 0: as many as the cluster has cores.

    Raises:
        MissingExtraError: Ray is not installed. UsageError: it cannot be started or reached.
    """

    def __init__(self, address: str | None = None, workers: int = 0) -> None:
        self.ray = require("ray", extra="scale")
        self.address, self.count = address, workers

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address is None:
            options |= {"num_cpus": self.count or usable_cores(), "include_dashboard": False}
        else:
            options["address"] = self.address
        try:
            with environment(ONE_THREAD):
                self.ray.init(**options)
        except Exception as error:  # Ray raises all kinds
            raise UsageError(
                f"Ray cannot be started or reached ({str(error).splitlines()[0][:150]}); see --address, or take --engine local."
            ) from error
        try:
            yield from self.work(tasks)
        finally:
            self.ray.shutdown()

    def work(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """A few tasks more than there are workers are handed over at a time, so that a long list costs no memory."""
        ray = self.ray
        remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1, max_calls=CLIPS_A_PROCESS)(track_clip)
        most = self.count or max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting, working = deque(tasks), dict[Any, Task]()
        while waiting or working:
            while waiting and len(working) < most + (0 if self.count else 2):
                task = waiting.popleft()
                working[remote.remote(task)] = task
            ended, _ = ray.wait(list(working), num_returns=1)
            for reference in ended:
                task = working.pop(reference)
                try:
                    yield ray.get(reference)
                except ray.exceptions.RayError:
                    yield lost(task, ATTEMPTS)
