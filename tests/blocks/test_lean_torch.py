"""Torch's compiler stays away until something is compiled, and then is all there; devices."""

import subprocess
import sys

import torch

from attnsearch.blocks.lean_torch import on_device

SCRIPT = """
import sys
import torch
from torch import nn
from attnsearch.blocks import build_network
from attnsearch.blocks.measure import count_macs
from attnsearch.runs.training.seeding import deterministic

config = {
    "network": {"backbone": "resnet20", "stem": "small", "width": 0.25, "weights": None},
    "insert": [{"at": "layer3", "block": "scconv", "params": {"pooling_ratio": 2}}],
}
network = build_network(config, 1, 10, 16)
count_macs(network, (1, 16, 16))
for kind in (torch.optim.SGD, torch.optim.AdamW):
    optimizer = kind(network.parameters(), lr=0.1)
    with deterministic("cpu"):
        optimizer.zero_grad()
        network(torch.rand(2, 1, 16, 16)).sum().backward()
        optimizer.step()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
assert not torch.are_deterministic_algorithms_enabled()
print([name for name in ("sympy", "torch._dynamo.eval_frame") if name in sys.modules])

asked = []
def compiler(graph, inputs):
    asked.append(graph)
    return graph.forward
step = torch.compile(lambda x: x.sin() + 1, backend=compiler)
kept_out = torch.compile(optimizer.zero_grad, backend=compiler)
with deterministic("cpu"):
    assert torch.equal(step(torch.ones(3)), torch.ones(3).sin() + 1)
    kept_out()
    told = [torch._inductor.config.deterministic]
with deterministic("cuda"):
    told.append(torch._inductor.config.deterministic)
import torch._dynamo.config
from torch._dynamo import exc
print(len(asked), torch._dynamo is sys.modules["torch._dynamo"], hasattr(exc, "Unsupported"), told)
"""


def test_the_compiler_is_loaded_when_something_is_compiled_and_not_before() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "1 True True [True, False]"], done.stderr


def test_tensors_are_made_on_the_device_whatever_the_default_is() -> None:
    for outside in ("cpu", "meta"):
        with torch.device(outside):
            for name in ("cpu", "meta"):
                with on_device(name):
                    assert torch.empty(1).device.type == name
            assert torch.empty(1).device.type == outside


def test_torch_is_not_taken_through_python_where_the_device_is_the_default() -> None:
    with on_device("cpu"):
        assert not torch.overrides._get_current_function_mode_stack()
