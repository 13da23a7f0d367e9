"""The workers of a run on several machines: their addresses, and the wait until all are there."""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

from tfcredit.errors import UserError
from tfcredit.training.recipe import Recipe

PORTS = 12000
"""The first port that workers of a SLURM job may take; TensorFlow's own is 8888 for all jobs."""
RANGE = 20000
"""The number of these ports."""
STRIDE = 7919
"""Places of neighbouring jobs that lie between those of two steps of one job."""
_EXAMPLE = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'


def are_told(recipe: Recipe) -> bool:
    """True if --workers, TF_CONFIG or a SLURM step of several tasks tells of workers."""
    return bool(recipe.workers) or len(_of_tf_config()[0]) > 1 or _slurm_tasks() > 1


def leave() -> None:
    """Make this process no worker of those that TF_CONFIG or a SLURM step tells of.

    For runs that are one of many: the tasks of a step that compares or searches are no workers of
    one run.
    """
    for name in ("TF_CONFIG", "SLURM_STEP_NUM_TASKS"):
        os.environ.pop(name, None)


def place_on_machine() -> tuple[int, int]:
    """The place of this task among those that its SLURM step has on this machine, and their number.

    0 and 1 outside of a step.
    """
    names = ("SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_TASKS_PER_NODE")
    place, node, counts = (os.environ.get(name, "") for name in names)
    if not (place.isdecimal() and node.isdecimal() and counts):
        return 0, 1
    from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

    try:
        count = slurm.expand_tasks_per_node(counts)[int(node)]
    except (ValueError, IndexError):
        return 0, 1
    return (int(place), count) if int(place) < count else (0, 1)


def own_gpus(visible: int) -> range:
    """The GPUs of this task of a SLURM step, of those that its process sees.

    A job that asks for GPUs per node, not per task, shows all GPUs of a node to each task there.
    Then each takes its part; TensorFlow would take all in every task.

    Args:
        visible: The number of GPUs that the process sees.

    Returns:
        Their places among these: all of them, unless tasks share them.

    Raises:
        UserError: The tasks on this machine see the same GPUs, and can't have as many each.
    """
    place, tasks = place_on_machine()
    if tasks == 1 or os.environ.get("SLURM_GPUS_ON_NODE") != str(visible):
        return range(visible)
    each, rest = divmod(visible, tasks)
    if rest:
        raise UserError(
            f"{tasks} tasks of this SLURM step share the {visible} GPUs of this machine, which "
            "can't be divided among them: use --gpus-per-task, or a number of tasks that divides "
            f"{visible}."
        )
    return range(place * each, (place + 1) * each)


def find(recipe: Recipe) -> tuple[list[str], int]:
    """The addresses of all workers, and this one's place among them.

    They come from --workers and --worker, else from TF_CONFIG, else from the SLURM step that this
    process is a task of.

    Args:
        recipe: The recipe; read are `workers` and `worker`.

    Returns:
        A `host:port` for each worker, and an index.

    Raises:
        UserError: Nothing tells of workers, or not well.
    """
    if recipe.workers:
        if recipe.worker is None:
            raise UserError(f"--workers={recipe.workers} needs --worker, this one's place in it.")
        workers, index = _expanded(recipe.workers), recipe.worker
        if not index < len(workers) or not all(":" in each for each in workers):
            raise UserError(
                f"--workers={recipe.workers} and --worker={index} describe no worker: give "
                "host:port,host:port and an index below the number of workers."
            )
        return workers, index
    workers, index = _of_tf_config()
    if not workers and _slurm_tasks() > 1:
        workers, index = _of_slurm()
    if not workers:
        raise UserError(
            "--strategy=multi_worker, but neither --workers=host:port,host:port --worker=INDEX nor "
            "the environment variable TF_CONFIG nor a SLURM step of several tasks tells which "
            "machines take part: give one of them."
        )
    return workers, index


def _of_tf_config() -> tuple[list[str], int]:
    """What TF_CONFIG tells; no workers where it describes no cluster."""
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        config = json.loads(text)
        workers = config.get("cluster", {}).get("worker", [])
        index = int(config.get("task", {}).get("index", 0))
        known = {"worker"} >= set(config.get("cluster", {}))
        fits = known and config.get("task", {}).get("type", "worker") == "worker"
        fits &= all(isinstance(w, str) and ":" in w for w in workers)
    except (ValueError, AttributeError, TypeError):
        raise UserError(
            f"TF_CONFIG={text!r} can't be read: it must look like {_EXAMPLE}."
        ) from None
    if not fits or (workers and not 0 <= index < len(workers)):
        raise UserError(
            f"TF_CONFIG={text!r} describes no worker of a cluster of workers: it must look like "
            f"{_EXAMPLE}, with an index below the number of workers and the same list everywhere."
        )
    return workers, index


def _slurm_tasks() -> int:
    """The number of tasks of the SLURM step of this process; 0 outside of one."""
    text = os.environ.get("SLURM_STEP_NUM_TASKS", "0")
    return int(text) if text.isdecimal() else 0


# Not TensorFlow's SlurmClusterResolver: 2.21 sorts hosts as text, so that with node[1-10] the task
# on node2 gets node10's address, and it gives no addresses to nodes without GPUs.
def _of_slurm() -> tuple[list[str], int]:
    """The tasks of a SLURM step, in the order of their ranks."""
    from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

    names = ("SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_JOB_ID")
    values = {name: os.environ.get(name) for name in names}
    for name, value in values.items():
        if not value:
            raise UserError(
                f"this process is one of {_slurm_tasks()} tasks of a SLURM step, but {name} is not "
                "set: start it by srun, or give --workers and --worker."
            )
    rank, nodes, counts, job = values.values()
    try:
        hosts = slurm.expand_hostlist(nodes)
        tasks = slurm.expand_tasks_per_node(counts)
        pairs = list(zip(hosts, tasks, strict=True))
        index, most = int(rank), max(tasks)
        # Jobs that follow each other, such as those of an array, may share a node, and so may
        # the steps of one job.
        step = os.environ.get("SLURM_STEP_ID", "")
        number = int(job) + STRIDE * (int(step) if step.isdecimal() else 0)
        first = PORTS + number % (RANGE // most) * most
    except ValueError:
        raise UserError(
            f"SLURM_STEP_NODELIST={nodes}, SLURM_STEP_TASKS_PER_NODE={counts}, SLURM_PROCID={rank} "
            f"and SLURM_JOB_ID={job} can't be read: give --workers and --worker."
        ) from None
    workers = [f"{host}:{first + place}" for host, count in pairs for place in range(count)]
    own = os.environ.get("SLURMD_NODENAME")
    if not index < len(workers) or own not in (None, workers[index].rsplit(":", 1)[0]):
        raise UserError(
            f"SLURM's task {index} runs on {own}, which is not its place in {nodes} with {counts} "
            "tasks per node: start the tasks with srun --distribution=block."
        )
    return workers, index


def _expanded(text: str) -> list[str]:
    """Addresses with SLURM's ranges of hosts, `node[1-4]:2222`, written out."""
    from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

    workers = []
    for part in re.split(r",(?![^\[]*\])", text):  # at commas outside of brackets
        hosts, _, port = part.rpartition(":")
        if "[" not in hosts:
            workers.append(part)
            continue
        try:
            workers += [f"{host}:{port}" for host in slurm.expand_hostlist(hosts)]
        except ValueError:
            raise UserError(
                f"--workers={text}: {hosts} is no range of hosts: write it as node[1-4]:2222, or "
                "each host by itself."
            ) from None
    return workers


@contextlib.contextmanager
def awaited(workers: list[str], index: int, seconds: float) -> Iterator[None]:
    """End the process if the block, in which workers wait for each other, takes too long.

    TensorFlow waits in C++ with the interpreter's lock: no thread, signal handler or timer of
    Python runs meanwhile. So a process of its own watches. It says which workers don't answer, and
    interrupts this one, which then ends with exit code 2. SIGTERM, SIGHUP and Ctrl-C end it at
    once. There is nothing yet that would have to be saved.

    Args:
        workers: Their addresses.
        index: This one's.
        seconds: How long to wait.
    """
    others = [w for i, w in enumerate(workers) if i != index]
    name = f"worker {index} ({workers[index]})"
    watcher = subprocess.Popen(
        [sys.executable, "-I", str(pathlib.Path(__file__).with_name("watcher.py"))],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C of a terminal reaches all processes of a session
    )
    task = {"pid": os.getpid(), "seconds": seconds, "name": name, "others": others}
    watcher.stdin.write(json.dumps(task) + "\n")
    watcher.stdin.flush()
    before = _ended_without_python()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        with contextlib.suppress(OSError):
            watcher.communicate("done\n")


def _ended_without_python() -> dict:
    """Let signals end this process without its interpreter; gives their handlers of before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, signal.SIG_DFL)
    # A handler in C, whose one argument is the signal's number. That of SIGINT is 2: the exit code
    # for what the user can mend.
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGINT, libc._exit)
    return before
