"""`attnsearch export --source`: the network as one readable Python file without attnsearch.

The file is run before it is kept: it must load the weights and give the network's outputs to the
last bit.
"""

import sys
import types
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from attnsearch.blocks.build import write_network
from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.exports.weights import ExportError
from attnsearch.runs.whole import whole
from attnsearch.runs.words import render


def export_source(network: Any, path: Path) -> None:
    """Write a network as Python source with `build`, `load` and `preprocess`.

    Args:
        network: From `load_export`.
        path: One file, written whole or not at all.

    Raises:
        ExportError: Something of it cannot be written out, or what was written gives other
            outputs.
    """
    try:
        text = _text(network)
    except AttnsearchError as error:
        raise ExportError(f"{path.name}: {error}; export without --source") from error
    _check(network, text, path.name)
    with whole(path) as new:
        new.write_text(text, encoding="utf-8")


def _text(network: Any) -> str:
    interface, config = network.interface, network.config
    classes = len(interface.class_names)
    written = write_network(config, interface.channels, classes, network.input_shape[1:])
    return render(
        "attnsearch.runs.exports",
        "network.py.jinja",
        imports=written.imports,
        definitions=written.definitions,
        build=written.build,
        interface=interface,
        config=config,
        version=version("attnsearch"),
        repr=repr,
    )


def _check(network: Any, text: str, name: str) -> None:
    """Run the file and compare.

    Raises:
        ExportError: It is not what it should be.
    """
    interface = network.interface
    module = types.ModuleType(f"attnsearch_written_{uuid.uuid4().hex}")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    shape = (3, *interface.image_size, interface.channels)
    pixels = torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).byte()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            exec(compile(text, name, "exec"), module.__dict__)
            built = module.finish(module.build(), network.state_dict())
            outputs = built(module.preprocess(pixels))
            expected = network(network.preprocess.normalisation(pixels))
        same = torch.equal(outputs, expected)
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ExportError(f"{name}: what was written does not run ({what}); no source") from error
    finally:
        del sys.modules[module.__name__]
    if not same:
        raise ExportError(f"{name}: what was written gives other outputs than the network")
