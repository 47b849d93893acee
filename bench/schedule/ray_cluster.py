"""Workers as tasks of a Ray cluster that is there already; none is ever started here.

Ray decides where a worker runs, leases decide whose a run is: a task whose node is lost is tried again as any worker
that may succeed another time, and goes on from the run's last checkpoint.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from bench.engine.worker import TRY_AGAIN
from bench.schedule.local import WORKER
from bench.schedule.remote import passed_on, run_command
from bench.schedule.states import Handle
from bench.store.order import Order
from bench.types import UserError

STOP_SECONDS = 120.0  # that workers have to save when the command ends


class RayTask:
    """A task of the cluster."""

    device = ""  # Ray chooses it; the run's lease says which

    def __init__(self, reference: Any, log: str) -> None:
        self.reference, self.log = reference, log

    def poll(self) -> int | None:
        import ray

        if not ray.wait([self.reference], timeout=0)[0]:
            return None
        try:
            return int(ray.get(self.reference))
        except ray.exceptions.RayError as error:  # the node was lost, or the task cancelled
            with open(self.log, "a", encoding="utf-8") as log:
                log.write(f"error: the Ray task was lost ({type(error).__name__})\n")
            return TRY_AGAIN

    def send(self, number: signal.Signals) -> None:
        """No signal reaches a task: its worker saves at its intervals, and when it is to end."""


class RayCluster:
    """So many tasks at a time, if the cluster has room for them."""

    def __init__(self, address: str, cuda: bool, threads: int, workers: int, per_device: int = 1) -> None:
        import ray

        if address == "local":
            raise UserError("--address local would start a cluster: expected that of a running one, auto or HOST:PORT")
        self.environment = passed_on(threads)
        try:
            ray.init(
                address=address,
                runtime_env={"env_vars": {"PYTHONPATH": self.environment["PYTHONPATH"]}},
                logging_level="ERROR",
                log_to_driver=False,
            )
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            first = str(error).strip().partition("\n")[0]
            raise UserError(
                f"no Ray cluster answers at --address {address} ({first}): expected auto or the HOST:PORT that "
                "'ray start --head' has printed"
            ) from None
        needs: dict[str, Any] = {"num_cpus": threads, "num_gpus": 1 / per_device if cuda else 0, "max_retries": 0}
        self.task = ray.remote(run_command).options(**needs)
        self.most = workers

    def room(self, running: Sequence[Handle]) -> int:
        return self.most - len(running)

    def call(self, command: Sequence[str], folder: str, log: str) -> RayTask:
        """Run a command somewhere in the cluster."""
        return RayTask(self.task.remote(list(command), folder, log, self.environment), log)

    def start(self, order: Order, avoid: str | None) -> Handle:
        return self.call([*WORKER, str(order.path)], order.folder, str(order.path.with_name("log.txt")))

    def flush(self) -> None:
        """Tasks begin when they are started."""

    def stop(self, running: Sequence[Handle]) -> None:
        """Let workers save, and end them."""
        import ray

        tasks = [handle.reference for handle in running if isinstance(handle, RayTask)]
        for task in tasks:
            ray.cancel(task)
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=STOP_SECONDS)
        ray.shutdown()
