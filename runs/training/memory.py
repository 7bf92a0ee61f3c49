"""Memory that runs out: how it is noticed, and what is said of it; and streams of a card."""

import contextlib
import gc
import resource
import sys
import warnings
import weakref
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch

_WORDS = (
    *("out of memory", "can't allocate memory", "cannot allocate memory", "std::bad_alloc"),
    *("cublas_status_alloc_failed", "cudnn_status_alloc_failed"),
    # What cuDNN's kernels work in could not be had, of any of them; it fails to say why.
    "unable to find an engine to execute this computation",
)

_spare: dict[torch.device, list[Any]] = defaultdict(list)  # streams that are nobody's


def own_stream(owner: object, device: torch.device) -> Any:
    """Return a stream of a card that is the owner's alone, as long as that lives.

    Then it is the next one's: cuBLAS keeps a workspace, of 32 MiB on recent cards, for each stream
    on which a thread has computed.
    """
    spare = _spare[device]
    try:  # other threads take some too
        stream = spare.pop()
    except IndexError:
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    weakref.finalize(owner, spare.append, stream).atexit = False
    return stream


@contextlib.contextmanager
def on_stream(stream: Any) -> Iterator[None]:
    """Run on a stream, in its turn with the current one; None for the current one."""
    if stream is None:
        yield
        return
    current = torch.cuda.current_stream()
    stream.wait_stream(current)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        current.wait_stream(stream)


@contextlib.contextmanager
def never_waiting(stream: Any) -> Iterator[None]:
    """Raise a RuntimeError where the host waits for a card.

    In a capture that is an error too, but one from which torch's allocator does not recover.
    """
    if stream is None:
        yield
        return
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(action="ignore"):  # it does not know of all waiting
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a card or of the process."""
    text = str(error).lower()
    kinds = MemoryError | torch.cuda.OutOfMemoryError
    return isinstance(error, kinds) or any(words in text for words in _WORDS)


def memory_held() -> str:
    """Say how much memory this process has held at most, and what limits it, if anything does."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = f"the process has held {used >> (20 if sys.platform == 'darwin' else 10)} MiB"
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    allowed = f", and its limit (ulimit -v) is {limit >> 20} MiB"
    return held + (allowed if limit != resource.RLIM_INFINITY else "")


def free_memory() -> None:
    """Give back what nothing uses any more."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
