"""Files decoded in parallel to facts, and facts without pixels: what stays known of each file.

A fact is a dataclass of plain values and one array, the file's pixels.
"""

import dataclasses
import functools
import inspect
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from attnsearch.runs.keeping.lazy import Array
from attnsearch.runs.machine import available_cpus

Fact = TypeVar("Fact")
Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


def in_order(
    function: Callable[[Item], Fact], files: Mapping[Key, Item]
) -> Iterator[tuple[Key, Fact | None, str]]:
    """Call a function on every file, in parallel and a few files ahead.

    Yields:
        The file's key, what the function returned, and the reason where it failed.
    """
    cpus = available_cpus()
    waiting: deque[tuple[Key, Future[Fact]]] = deque()
    with ThreadPoolExecutor(cpus) as pool:
        todo = iter(files.items())
        for key, path in todo:
            waiting.append((key, pool.submit(function, path)))
            if len(waiting) >= 4 * cpus:
                first, future = waiting.popleft()
                yield first, *_outcome(future)
        for key, future in waiting:
            yield key, *_outcome(future)


def _outcome(future: Future[Fact]) -> tuple[Fact | None, str]:
    try:
        return future.result(), ""
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        return None, str(error).split(" <_io")[0] or type(error).__name__


def array_in(fact: Any) -> str:
    """Return which attribute holds the pixels."""
    values = {part.name: getattr(fact, part.name) for part in dataclasses.fields(fact)}
    return next(name for name, value in values.items() if isinstance(value, np.ndarray))


def emptied(fact: Fact) -> Fact:
    """Return a fact whose array has its shape and type, and takes no memory."""
    name = array_in(fact)
    pixels: Array = getattr(fact, name)
    return dataclasses.replace(fact, **{name: _placeholder(pixels.dtype.str, *pixels.shape)})  # type: ignore[type-var]


@functools.lru_cache(maxsize=1024)  # most images of a source have one shape
def _placeholder(kind: str, *shape: int) -> Array:
    return np.broadcast_to(np.zeros((), kind), shape)


def packed(fact: Any) -> dict[str, Any]:
    """Return a fact as plain JSON values."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return {"array": [value.dtype.str, value.shape]}
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        if isinstance(value, Mapping):
            return {"pairs": [[*pair] for pair in value.items()]}
        return value

    return {part.name: plain(getattr(fact, part.name)) for part in dataclasses.fields(fact)}


def unpacked(plain_values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `packed` was given, its array without its pixels."""

    def value(plain: Any) -> Any:
        if isinstance(plain, list):
            return tuple(plain)
        if not isinstance(plain, dict):
            return plain
        if "array" in plain:
            kind, shape = plain["array"]
            return _placeholder(kind, *shape)
        if "bytes" in plain:
            return bytes.fromhex(plain["bytes"])
        return {tuple(key): count for key, count in plain["pairs"]}

    return {name: value(plain) for name, plain in plain_values.items()}


def fact_type(decoder: Callable[[Path], Fact]) -> Callable[..., Fact]:
    """Return what a decoder returns, as it is annotated."""
    plain = getattr(decoder, "func", decoder)
    kind: Callable[..., Fact] = inspect.signature(plain, eval_str=True).return_annotation
    return kind
