"""Why a training failed or its process was lost, in words: by its error, Ray and what it left."""

import re
import traceback
from pathlib import Path

from ray.exceptions import RayTaskError

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.addresses import without_secrets
from attnsearch.runs.machine import memory_limit
from attnsearch.runs.training import memory_held, out_of_memory
from attnsearch.runs.words import quantity
from attnsearch.search.workers.job import MACHINE_LOST, Job

OUT_OF_MEMORY = "out of memory"  # how the error of a loss begins that memory was the reason of
FATAL = "Fatal Python error: "  # how faulthandler begins
SLOW = "Timeout ("  # and a look of the watchdog


def fault_file(folder: Path, job: Job) -> Path:
    """Return where a worker writes why its process crashed in a job; empty unless it did."""
    return folder / f"fault-{job.id}.txt"


def machine_lost(error: str) -> bool:
    """Return whether Ray says that a whole machine went away."""
    return "node died" in error.lower() or "node was terminated" in error.lower()


def explain_loss(error: str, left: str, *, killed: bool = False) -> str:
    """Return why a worker process was lost, in one sentence.

    Args:
        error: What Ray says.
        left: What the process left behind when it crashed.
        killed: Whether the system has killed a process since memory ran out.
    """
    less = "a smaller train.batch_size or fewer trials side by side (resources) need less"
    if "OutOfMemoryError" in error or "memory pressure" in error or "running low on mem" in error:
        return (
            f"{OUT_OF_MEMORY}: Ray ended the worker because the machine's memory was nearly full; "
            f"{less}"
        )
    if machine_lost(error):
        return MACHINE_LOST
    if place := crash_place(left):
        if place.startswith(OUT_OF_MEMORY):
            return place
        return f"the worker process crashed: {place}"
    if killed:
        full = f"{quantity(memory_limit())}B of memory were full"
        return f"{OUT_OF_MEMORY}: the system ended the worker, since {full}; {less}"
    return (
        "the worker process died without a word: it was killed (by the system, if memory ran "
        "out), or native code ended it"
    )


def newest_word(left: str) -> str:
    """Return what a process wrote last: that it crashed, or where a long step stood by then."""
    return left[max(left.rfind(SLOW), left.find(FATAL), 0) :]


def crash_place(left: str) -> str:
    """Return how and where a process crashed, from what faulthandler wrote; empty without that.

    Its lines name the innermost call of a thread first, and the thread that crashed.
    """
    fault = left.partition(FATAL)[2].partition("\n")[0]
    return f"{fault}{_innermost(left.partition('Current thread')[2])}"


def hang_place(left: str) -> str:
    """Return where a process hung, from what its watchdog wrote last."""
    return _innermost(left.rpartition("Thread 0x")[2])


def _innermost(calls: str) -> str:
    match = re.search(r'File "(.*)", line (\d+) in (.*)', calls)
    return f" ({Path(match[1]).name}:{match[2]} in {match[3]})" if match else ""


def failure_text(error: BaseException) -> str:
    """Return why a training failed, in one sentence that a person understands."""
    text = without_secrets(" ".join(str(error).split()))
    if out_of_memory(error):
        return f"out of memory: {text or type(error).__name__} ({memory_held()})"
    if isinstance(error, AttnsearchError):
        return text
    calls = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error.__cause__, RayTaskError):  # of another process of the trial
        calls = re.findall(r'File "(.*)", line (\d+)', str(error.__cause__))
    place = f" ({Path(calls[-1][0]).name}:{calls[-1][1]})" if calls else ""
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"
