"""The machines of a Ray that was joined: which can take part, and which are there by now."""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.addresses import answers, without_secrets
from attnsearch.runs.ledger import changed_inputs, inputs, package_inputs
from attnsearch.runs.machine import gpu_names
from attnsearch.runs.store import VARIABLE, check_store, store_value
from attnsearch.search.workers.cluster import Cluster, ClusterError, Need, fit
from attnsearch.search.workers.ray_private import machine_of

COUNTED_SECONDS = 2.0  # between two counts of the machines
HEAD_SECONDS = 20.0  # without an answer of the head
LOOKS, LOOK_SECONDS = 3, 0.5  # a machine's worker may end a moment before its Ray does
EXAMINED_SECONDS = 120.0  # in which a machine has started a process and imported attnsearch


def machine_gone(said: str) -> bool:
    """Return whether the machine of a lost worker does not answer.

    Ray notices a machine that is gone after a dozen seconds; what ran on it is lost at once, and
    until then Ray says no more than that a connection broke.

    Args:
        said: What Ray says of the loss, the worker's identity in it.
    """
    worker = re.search(r"\b[0-9a-f]{32}\b", said)
    where = machine_of(worker[0]) if worker else None
    if where is None:
        return False
    for _ in range(LOOKS):
        if not answers(where):
            return True
        time.sleep(LOOK_SECONDS)
    return False


class Head:
    """Looks after the head of a joined Ray: without it Ray ends this process, a minute later.

    Args:
        address: Of its records, HOST:PORT.
        clock: Seconds.
    """

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._address, self._clock = address, clock
        self._answered = self._asked = clock()

    def check(self) -> None:
        """See now and then whether it answers.

        Raises:
            ClusterError: It has not for a while.
        """
        now = self._clock()
        if now - self._asked < COUNTED_SECONDS:
            return
        self._asked = now
        if answers(self._address):
            self._answered = now
        elif now - self._answered > HEAD_SECONDS:
            raise ClusterError(
                f"the head of the cluster at {self._address} is gone: it has not answered for "
                f"{now - self._answered:.0f} s\nWhat has finished is recorded; once a cluster is "
                f"there again, the same command goes on from there"
            )

    @property
    def answering(self) -> bool:
        """Whether it did when it was last asked."""
        return self._answered == self._asked


class Room:
    """How many trials run side by side: by the machines that are there, counted now and again.

    Args:
        running: The Ray.
        tell: Shows a person a sentence.
        clock: Seconds.
        head: Without which there is nobody to ask for the machines.
    """

    def __init__(
        self,
        running: Cluster,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        head: Head | None = None,
    ) -> None:
        self._head = head
        self._running, self._tell, self._clock = running, tell, clock
        self._trials, self._again = running.workers, clock()
        self._machines: dict[str, str] | None = None  # address by Ray's name, of those with room

    def __call__(self) -> int:
        """Return how many; one where no machine has room, since one may come back."""
        there = self._head is None or self._head.answering
        if self._running.joined and there and self._clock() >= self._again:
            self._again = self._clock() + COUNTED_SECONDS
            self._count()
        return max(1, self._trials)

    def _count(self) -> None:
        import ray

        need = self._running.need
        rooms = {
            node["NodeID"]: (node["NodeManagerAddress"], room_of(need, node))
            for node in ray.nodes()
            if node["Alive"]
        }
        self._trials = min(sum(room for _, room in rooms.values()), self._running.most)
        before, now = (
            self._machines,
            {node: place for node, (place, room) in rooms.items() if room},
        )
        self._machines = now
        if before is None or before == now:
            return
        words = [f"{now[node]} has joined" for node in now.keys() - before.keys()]
        words += [f"{before[node]} is gone" for node in before.keys() - now.keys()]
        self._tell(
            f"the cluster: {', '.join(sorted(words))}; up to {self._trials} trials side by side "
            f"from now on"
        )


@dataclass(frozen=True)
class Machine:
    """What a machine says of its part in a study.

    Attributes:
        cards: The names of its cards.
        lacks: Why it cannot train what the study trains; empty where it can.
        apart: Whether it does not see the driver's disk.
    """

    cards: tuple[str, ...]
    lacks: str = ""
    apart: bool = False


def look(
    document: Mapping[str, Any],
    expected: Mapping[str, str],
    folders: Sequence[str],
    paths: Sequence[str],
    store: str = "",
    disk: str = "/",
) -> Machine:
    """Say, on the machine itself, whether it can take part.

    Args:
        document: The space file's.
        expected: What its results depend on, as the driver sees it; see `ledger.inputs`.
        folders: The driver's `sys.path`, and where modules of the user's own blocks lie.
        paths: What has to be there too.
        store: What ATTNSEARCH_STORE is for the driver.
        disk: A folder of the driver's.
    """
    os.environ.update({VARIABLE: store} if store else {})
    sys.path[:] = dict.fromkeys([*folders, *sys.path])
    lacks = [f"{path} is not there" for path in paths if not Path(path).exists()]
    try:
        now = inputs(document) | package_inputs()
        lacks += [f"{what}: another than the driver's" for what in changed_inputs(expected, now)]
        check_store()
    except (AttnsearchError, OSError) as error:
        lacks.append(" ".join(str(error).split()))
    return Machine(gpu_names(), "; ".join(lacks), not Path(disk).is_dir())


def examined(
    running: Cluster,
    document: Mapping[str, Any],
    expected: Mapping[str, str],
    folders: Sequence[str],
    paths: Sequence[str],
    tell: Callable[[str], None],
) -> Cluster:
    """Return a joined Ray with the names of its cards, once all its machines can take part.

    Args:
        running: The Ray.
        document: As `look` takes it, as the next three.
        expected: Likewise.
        folders: Likewise.
        paths: Likewise.
        tell: Shows a person a sentence.

    Raises:
        ClusterError: One lacks what the study needs; the message says which and what.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if not running.joined:
        return running
    need = running.need
    # In a process of its own, which the import of a user's block leaves in any state.
    task = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(look)
    asked, store = {}, store_value()
    for node in ray.nodes():
        if node["Alive"] and room_of(need, node):
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            arguments = (document, expected, all_folders(folders), paths, store)
            asked[
                task.options(scheduling_strategy=there).remote(*arguments, str(running.folder))
            ] = node
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=EXAMINED_SECONDS)
    cards: set[str] = set()
    apart = []
    for answer in ready:
        place = asked[answer]["NodeManagerAddress"]
        try:
            machine = ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            machine = Machine((), " ".join(str(error.cause or error).split()))
        except ray.exceptions.RayError:
            continue  # it went away, and what trains there would go on elsewhere
        if machine.lacks:
            raise ClusterError(
                f"the machine {place} of the cluster cannot take part: "
                f"{without_secrets(machine.lacks)}\nWhat every machine needs stands in "
                f"docs/cluster.md; one that is not to train is started with `ray start "
                f"--num-cpus=0`"
            )
        cards.update(machine.cards)
        apart += [place] if machine.apart else []
    if apart and not store:
        tell(
            f"{' and '.join(sorted(apart))} do not see this machine's disk: checkpoints come here "
            f"with reports, after epochs alone; with ATTNSEARCH_STORE=s3://BUCKET/NAME, or a "
            f"folder that all machines see, each writes its own"
        )
    return replace(running, cards=tuple(sorted(cards)))


def all_folders(folders: Sequence[str]) -> tuple[str, ...]:
    """Return the driver's `sys.path` and then some folders, all absolute."""
    return tuple(dict.fromkeys(str(Path(place).absolute()) for place in (*sys.path, *folders)))


def offered() -> str:
    """Say what the machines of a joined Ray have together."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    return f"machines {len(nodes)}, CPUs {cpus:g}, GPUs {gpus:g}"


def room_of(need: Need, node: Mapping[str, Any]) -> int:
    """Return how many trials a machine has room for, as `ray.nodes()` shows it."""
    offers = node["Resources"]
    return fit(need, offers.get("CPU", 0), offers.get("GPU", 0))
