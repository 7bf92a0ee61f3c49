"""The machines of a cluster: counted, examined, and known to be gone."""

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attnsearch.runs.ledger.key import package_inputs
from attnsearch.search.workers import nodes as module
from attnsearch.search.workers.cluster import Cluster, ClusterError, Need, running_cluster
from attnsearch.search.workers.nodes import (
    Head,
    Machine,
    Room,
    examined,
    look,
    machine_gone,
    offered,
)

ACTOR = "6a88b69f5e7ab850ce9275a501000000"
DOCUMENT = {"network": {"weights": None}, "insert": []}


def node(name: str, cpus: float = 0.0, cards: float = 0.0, *, alive: bool = True) -> Any:
    offers = {kind: count for kind, count in (("CPU", cpus), ("GPU", cards)) if count}
    return {"NodeID": name, "NodeManagerAddress": f"10.0.0.{name}", "Alive": alive} | {
        "Resources": offers
    }


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Ray lists; the first trains nothing."""
    listed = [node("1"), node("2", 4)]
    monkeypatch.setattr("ray.nodes", lambda: listed)
    return listed


@pytest.mark.parametrize(
    ("bundle", "came", "room"),
    [
        ({"CPU": 1, "GPU": 0}, node("3", 2), 6),
        ({"CPU": 1, "GPU": 0}, node("3", 64), 10),  # no more than there are trials
        ({"CPU": 3, "GPU": 0}, node("3", 2), 1),  # it has no room for even one
    ],
)
def test_room_follows_machines_that_join_and_go(
    bundle: dict[str, float], came: Any, room: int, machines: list[Any], tmp_path: Path
) -> None:
    told: list[str] = []
    clock = iter(range(0, 100, 5))
    running = Cluster(tmp_path, 4, bundle, joined=True, most=10)
    count = Room(running, told.append, lambda: next(clock))
    first = count()
    machines.append(came)
    assert count() == room
    joined = came["Resources"]["CPU"] >= bundle["CPU"]
    assert [text for text in told if "10.0.0.3 has joined" in text] == told[: int(joined)]
    machines[-1]["Alive"] = False
    assert count() == first
    assert [text for text in told if "10.0.0.3 is gone" in text] == told[1:]
    machines[1]["Alive"] = False
    assert count() == 1, "one waits for a machine to come back"


def test_machines_are_counted_now_and_then_and_not_where_ray_is_our_own(
    machines: list[Any], tmp_path: Path
) -> None:
    running = Cluster(tmp_path, 4, {"CPU": 1, "GPU": 0}, joined=True, most=10)
    now = [0.0]
    count = Room(running, print, lambda: now[0])
    assert count() == 4
    machines.append(node("3", 1))
    assert count() == 4
    now[0] = module.COUNTED_SECONDS
    assert count() == 5
    assert Room(Cluster(tmp_path, 2, {"CPU": 1, "GPU": 0}), print)() == 2


def test_a_head_that_does_not_answer_for_a_while_ends_the_study(
    machines: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, there = [0.0], [True]
    monkeypatch.setattr(module, "answers", lambda address: there[0])
    head = Head("10.0.0.1:6379", lambda: now[0])
    running = Cluster(tmp_path, 4, {"CPU": 1, "GPU": 0}, joined=True, most=10)
    count = Room(running, print, lambda: now[0], head)
    assert count() == 4
    machines.append(node("3", 1))
    there[0] = False
    for now[0] in range(0, int(module.HEAD_SECONDS), 5):
        head.check()
    assert not head.answering and count() == 4, "nobody is asked, who would not answer"
    there[0] = True
    now[0] = module.HEAD_SECONDS
    head.check()
    assert count() == 5
    there[0] = False
    now[0] *= 2.5
    with pytest.raises(ClusterError, match=r"head of the cluster at 10\.0\.0\.1:6379 is gone"):
        head.check()


def test_what_a_cluster_has_is_added_up(machines: list[Any]) -> None:
    machines += [node("3", 8, 4), node("4", 100, alive=False)]
    assert offered() == "machines 3, CPUs 12, GPUs 4"


def test_a_machine_is_gone_where_its_ray_takes_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    said = f"ActorUnavailableError: The actor {ACTOR} is unavailable: Socket closed"
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = "{}:{}".format(*server.getsockname())
        monkeypatch.setattr(
            module, "machine_of", lambda actor: {ACTOR: where, "0" * 32: None}[actor]
        )
        assert not machine_gone(said)
        assert not machine_gone("who knows")
        assert not machine_gone(said.replace(ACTOR, "0" * 32))
    assert machine_gone(said)
    assert machine_gone(f"died\n\tactor_id: {ACTOR}\n\tpid: 1")


def test_a_machine_says_what_it_lacks(tmp_path: Path) -> None:
    expected = package_inputs()
    assert look(DOCUMENT, expected, [], [str(tmp_path)]).lacks == ""
    gone = str(tmp_path / "images")
    assert look(DOCUMENT, expected, [], [gone]).lacks == f"{gone} is not there"
    other = look(DOCUMENT, expected | {"torch": "1.0"}, [], []).lacks
    assert other.startswith("torch 1.0 (now ") and "another than the driver's" in other
    mine = {**DOCUMENT, "insert": [{"block": "not_there_at_all:Gate"}]}
    assert "not_there_at_all" in look(mine, expected, [], []).lacks


class Asked:
    """Stands for Ray's tasks: each machine's answer, or what getting it raises."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def remote(self, **options: Any) -> Any:
        return lambda look: self

    def options(self, scheduling_strategy: Any) -> Any:
        return type("Task", (), {"remote": lambda task, *given: scheduling_strategy.node_id})()

    def get(self, name: str) -> Machine:
        if isinstance(self.answers[name], Exception):
            raise self.answers[name]
        answer: Machine = self.answers[name]
        return answer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, machines: list[Any]) -> dict[str, Any]:
    """The answers of machines, by their name."""
    answers: dict[str, Any] = {}
    stand_in = Asked(answers)
    monkeypatch.setattr(
        "ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy",
        lambda name, soft: SimpleNamespace(node_id=name),
    )
    monkeypatch.setattr("ray.remote", stand_in.remote)
    monkeypatch.setattr("ray.get", stand_in.get)
    monkeypatch.setattr("ray.wait", lambda asked, num_returns, timeout: (asked, []))
    machines.append(node("3", 8, 2))
    return answers


def test_cards_are_those_of_the_machines_that_train(asked: dict[str, Any], tmp_path: Path) -> None:
    asked["3"] = Machine(("NVIDIA H200, 580", "NVIDIA A100, 580"))
    running = Cluster(tmp_path, 1, {"CPU": 1, "GPU": 1}, joined=True)
    seen = examined(running, DOCUMENT, {}, [], [], print)
    assert seen.cards == ("NVIDIA A100, 580", "NVIDIA H200, 580")


def test_a_machine_that_cannot_take_part_is_told_before_anything_trains(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    from ray.exceptions import NodeDiedError, RayTaskError

    running = Cluster(tmp_path, 1, {"CPU": 1, "GPU": 0}, joined=True)
    asked |= {"2": NodeDiedError("it is gone"), "3": Machine((), "torch 1.0 (now 2.0)")}
    with pytest.raises(ClusterError, match=r"machine 10.0.0.3 .* torch 1.0 \(now 2.0\)"):
        examined(running, DOCUMENT, {}, [], [], print)
    missing = ModuleNotFoundError("No module named 'attnsearch'")
    asked["3"] = RayTaskError("look", "a traceback", missing)
    with pytest.raises(ClusterError, match="cannot take part: No module named 'attnsearch'"):
        examined(running, DOCUMENT, {}, [], [], print)
    asked["3"] = Machine(())
    assert examined(running, DOCUMENT, {}, [], [], print).cards == (), (
        "one that went away is no obstacle"
    )


def test_a_ray_of_our_own_is_not_examined(tmp_path: Path) -> None:
    running = Cluster(tmp_path, 1, {"CPU": 1, "GPU": 0})
    assert examined(running, DOCUMENT, {}, [], [], print) is running


def test_an_address_for_clients_is_refused_with_what_to_do_instead() -> None:
    with (
        pytest.raises(ClusterError, match=r"ray://head:10001 .* with the address auto"),
        running_cluster(Need(address="ray://head:10001"), 1),
    ):
        raise AssertionError("it was joined")
