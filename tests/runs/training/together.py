"""Several processes of one training, as tests start them."""

import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, multiprocessing

from attnsearch.blocks.ranks import Ranks, connect, disconnect, meeting_place


class Together:
    """Processes of one group, each of which does what it is asked.

    Args:
        count: How many.
    """

    def __init__(self, count: int = 2) -> None:
        context = multiprocessing.get_context("spawn")
        self.count = count
        self._store = meeting_place(count)
        self._ends: list[Connection] = []
        self._processes = []
        for rank in range(count):
            here, there = context.Pipe()
            given = (there, rank, count, self._store.port)
            process = context.Process(target=_serve, args=given, daemon=True)
            process.start()
            there.close()
            self._ends.append(here)
            self._processes.append(process)

    def __call__(self, work: Callable[..., Any], *given: Any, synced: bool = False) -> list[Any]:
        """What each of them returns of `work(ranks, *given)`."""
        for end in self._ends:
            end.send((work, given, synced))
        answers = [end.recv() for end in self._ends]
        for fault, _ in answers:
            assert not fault, fault
        return [answer for _, answer in answers]

    def close(self) -> None:
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(10)
            process.kill()


def _serve(end: Connection, rank: int, count: int, port: int) -> None:
    torch.set_num_threads(1)
    store = meeting_place(count, port)
    connect(rank, count, store, torch.device("cpu"), synced=False)
    while True:
        try:
            work, given, synced = end.recv()
        except EOFError:
            disconnect()
            return
        try:
            end.send(("", work(Ranks(rank, count, synced), *given)))
        except BaseException:
            end.send((traceback.format_exc(), None))


def squares(logits: Tensor, targets: Tensor) -> Tensor:
    """A loss of one's own that is no mean over the images."""
    truth = torch.nn.functional.one_hot(targets, logits.shape[1]).to(logits.dtype)
    return (logits.softmax(1) - truth).square().sum(0).max()
