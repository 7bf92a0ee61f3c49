"""What torch has in Python for the meta device is left out by a command that has no use for it."""

import subprocess
import sys

START = """
import sys
from attnsearch.blocks import meta_device
meta_device.leave_out()
import torch
assert "torch._decomp" not in sys.modules
layer = torch.nn.Conv2d(3, 8, 3, device="meta")
"""
FORWARD = """
assert layer(torch.empty(2, 3, 9, 9, device="meta")).shape == (2, 8, 7, 7)
"""
USES = {
    "a user's code": (
        "from attnsearch.blocks.imported import imported\nimported('function', 'json:dumps')"
    ),
    "counting": (
        "from attnsearch.blocks.measure import count_macs\n"
        "assert count_macs(layer, (3, 9, 9)) == 8 * 27 * 49"
    ),
    "a large block": (
        "from attnsearch.blocks.build import check_fit\n"
        "network = {'backbone': 'resnet20', 'stem': 'small', 'width': 1.0}\n"
        "check_fit({'network': network}, 'layer1', 'gc', {}, 64)"
    ),
    "the compiler": (
        "from attnsearch.blocks.lean_torch import load_compiler_late\nload_compiler_late()\n"
        "step = torch.compile(lambda x: x.sin() + 1, backend='aot_eager')\n"
        "assert torch.equal(step(torch.ones(3)), torch.ones(3).sin() + 1)"
    ),
}


def run(*lines: str) -> str:
    script = "\n".join([START, *lines])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def test_it_is_loaded_by_whoever_needs_it() -> None:
    assert "NotImplementedError" in run(
        "import os",  # a process of its own for each, which begins with torch in memory
        f"for what, use in {USES!r}.items():",
        "    if not (child := os.fork()):",
        f"        exec(use + {FORWARD!r}, globals())",
        "        os._exit('torch._decomp' not in sys.modules)",
        "    assert os.waitpid(child, 0)[1] == 0, what",
        FORWARD,
    )


def test_networks_are_constructed_without_it() -> None:
    told = run(
        "from attnsearch.blocks.build import find_block, shapes_only",
        "from attnsearch.blocks.mechanisms import BLOCKS",
        "from attnsearch.blocks.hosts import BACKBONES, host_constructor",
        "for name in BACKBONES:",
        "    settings = {'backbone': name, 'stem': None, 'width': 1.0, 'weights': None}",
        "    with shapes_only():",
        "        host_constructor(settings, 3, 10, (128, 128))()",
        "for name in BLOCKS:",
        "    with shapes_only():",
        "        find_block(name)(64)",
        "assert 'torch._decomp' not in sys.modules",
    )
    assert told == ""


def test_torch_that_has_been_imported_stays_whole() -> None:
    import torch

    from attnsearch.blocks import meta_device

    before = sys.modules["torch._meta_registrations"]
    meta_device.leave_out()
    meta_device.load()
    assert sys.modules["torch._meta_registrations"] is before
    assert torch._meta_registrations is before
