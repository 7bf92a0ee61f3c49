"""Decoders: shapes, sites, names, and what trains."""

from typing import Any

import pytest
import torch
from torch import nn

from attnsearch.blocks import build_network
from attnsearch.blocks.build.sites import network_sites
from attnsearch.blocks.errors import SiteError
from attnsearch.blocks.hosts.pyramid import DECODERS


def config(
    decoder: str | None, insert: list[dict[str, Any]] | None = None, **network: Any
) -> dict[str, Any]:
    settings = {"backbone": "resnet18", "width": 0.125, "decoder": decoder, **network}
    return {"task": "segmentation", "network": settings, "insert": insert or []}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("network", "size"),
    [
        ({}, (48, 33)),
        ({"stem": "small"}, (17, 24)),
        ({"backbone": "resnet20", "width": 0.5}, (20, 20)),
        ({"backbone": "resnet50"}, (64, 32)),
        ({"backbone": "scnet50_v1d"}, (128, 128)),
    ],
)
def test_logits_have_the_images_size_and_every_part_is_trained(
    decoder: str, network: dict[str, Any], size: tuple[int, int]
) -> None:
    built = build_network(config(decoder, **network), 3, 4, size)
    logits = built(torch.randn(2, 3, *size))
    assert logits.shape == (2, 4, *size)
    logits.square().mean().backward()
    untrained = [name for name, p in built.named_parameters() if p.grad is None]
    assert not untrained


@pytest.mark.parametrize("decoder", DECODERS)
def test_no_class_is_ahead_where_there_is_nothing(decoder: str) -> None:
    built = build_network(config(decoder, aux_heads=["layer3"]), 3, 3, 48)
    scores = [m for m in built.modules() if isinstance(m, nn.Conv2d) and m.out_channels == 3]
    assert len(scores) >= 2
    for conv in scores:
        assert (conv(torch.zeros(1, conv.in_channels, 2, 2)) == 0).all()
        assert float(conv.weight.detach().std()) > 0.05


def test_a_narrow_unet_keeps_a_width_that_learns() -> None:
    narrow = network_sites(config("unet")["network"], 48)
    steps = {place.name: place.channels for place in narrow if place.name.startswith("decoder")}
    assert list(steps.values()) == [32, 16, 16, 16]
    assert build_network(config("unet"), 3, 2, 48).decoder.head.in_channels == 16
    wide = network_sites(config("unet", width=1.0)["network"], 48)
    assert [p.channels for p in wide if p.name.startswith("decoder")] == [256, 128, 64, 32]


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_block_can_stand_at_each_step(decoder: str) -> None:
    places = [
        place
        for place in network_sites(config(decoder)["network"], 48)
        if place.name.startswith("decoder")
    ]
    assert places
    insert = [{"at": place.name, "block": "simam", "params": {}} for place in places]
    built = build_network(config(decoder, insert), 3, 2, 48)
    seen: dict[str, tuple[int, ...]] = {}
    for place in places:
        module = built.get_submodule(f"inserted.{place.name}.0")
        module.register_forward_hook(
            lambda _m, inputs, _y, name=place.name: seen.update({name: inputs[0].shape[1:]})
        )
    built(torch.randn(2, 3, 48, 48))
    assert seen == {place.name: (place.channels, *place.size) for place in places}


def test_the_encoder_keeps_its_names_and_its_weights() -> None:
    plain = build_network(
        {"network": {"backbone": "resnet18", "width": 0.125}, "insert": []}, 3, 10, 32
    )
    for decoder in DECODERS:
        state = build_network(config(decoder), 3, 2, 32).state_dict()
        for name, tensor in plain.state_dict().items():
            if not name.startswith("fc."):
                assert torch.equal(state.pop(name), tensor)
        assert all(name.startswith("decoder.") for name in state)


def test_auxiliary_heads_speak_in_training_only() -> None:
    built = build_network(config("fpn", aux_heads=["layer2", "layer3"]), 3, 3, 32)
    built(torch.randn(2, 3, 32, 32))
    assert {stage: y.shape[:2] for stage, y in built.head_logits.items()} == {
        "layer2": (2, 3),
        "layer3": (2, 3),
    }
    plain = build_network(config("fpn"), 3, 3, 32).eval()
    plain.load_state_dict(
        {k: v for k, v in built.state_dict().items() if not k.startswith("auxiliary.")}
    )
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(built.eval()(x), plain(x))


def test_mistakes_name_what_there_is() -> None:
    with pytest.raises(SiteError, match="unet, fpn, fcn, aspp"):
        build_network(config("segformer"), 3, 2, 32)
    with pytest.raises(SiteError, match=r"layer5.*layer1, layer2, layer3, layer4"):
        build_network(config("unet", aux_heads=["layer5"]), 3, 2, 32)
    with pytest.raises(SiteError, match=r"network\.decoder"):
        build_network(config(None), 3, 2, 32)
    with pytest.raises(SiteError, match="a decoder of its own"):
        build_network(config("unet", backbone="medt"), 3, 2, 128)
    with pytest.raises(SiteError, match="needs task: segmentation"):
        build_network({**config("unet"), "task": "classification"}, 3, 2, 32)


def test_a_network_with_a_decoder_exports() -> None:
    built = build_network(config("unet"), 3, 2, 32).eval()
    x = torch.randn(1, 3, 32, 32)
    exported: nn.Module = torch.export.export(built, (x,)).module()
    torch.testing.assert_close(exported(x), built(x))


@pytest.mark.parametrize("size", [(160, 160), (40, 160), (160, 40), (96, 160)])
def test_aspp_dilates_by_the_stride_whatever_the_form(size: tuple[int, int]) -> None:
    built = build_network(config("aspp"), 3, 2, size)
    dilations = {m.dilation for m in built.modules() if isinstance(m, nn.Conv2d)}
    # 6, 12 and 18 at stride 16: half at the 32 of a resnet18.
    assert dilations == {(1, 1), (3, 3), (6, 6), (9, 9)}
