"""A small network with a block in it, as after some training."""

import torch
from torch import nn

from attnsearch.blocks import build_network

# Where the defaults do not fit 16 channels.
PARAMS = {"psa": {"kernels": [3, 5], "groups": [1, 2]}, "gc": {"ratio": 0.25}}


def network(block: str, at: str = "layer2", size: int | tuple[int, int] = 16) -> nn.Module:
    params = {block: PARAMS.get(block, {})}
    insert = [{"at": at, "name": at, "block": block, "params": params}]
    host = {"backbone": "resnet20", "stem": "small", "width": 0.5, "weights": None}
    config = {"task": "classification", "network": host, "insert": insert}
    net = build_network(config, 1, 4, size)
    with torch.no_grad():  # statistics and zero-initialised branches as after some training
        for name, tensor in net.state_dict().items():
            if name.endswith(("running_mean", "bn2.weight", "bias")):
                tensor.uniform_(0.1, 0.9, generator=torch.Generator().manual_seed(len(name)))
    return net.eval()
