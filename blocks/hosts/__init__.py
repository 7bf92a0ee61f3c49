"""The networks that can hold blocks: their sites, shapes, decoders and pretrained weights.

sizes         Sizes of images and widths of networks, in one form; needs no torch
backbones     The host networks: what tells one from another, and which sizes and widths each can
              take
host          What every host network has: sites with chains of added blocks, and where it came
              from
construct     From the settings of a host network to what constructs it
resnet        ResNets with named sites
scnet         SCNet: bottlenecks with a self-calibrated path beside a plain one
axial_block   The residual block of axial networks: attention along both axes between 1x1
              convolutions
axial_resnet  The axial ResNet for classification: a ResNet whose 3x3 convolutions are axial
              attention
medt          MedT, LoGo and the axial U-Nets for segmentation
patches       Training on the patches of an image at once, as if they came one after another
own           A network of the user's own as a host: `module:Class`
pyramid       The maps that pass between a ResNet and a decoder: their shapes, and which decoders
              there are
decoders      Decoders: from the maps of a ResNet's stem and stages to a mask of the image's size
setting       What a network.weights setting says; needs no torch
weights       Pretrained weights: a state dict under torchvision's names, or a published one, into
              a network
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.blocks.hosts.axial_block import AxialBlock
    from attnsearch.blocks.hosts.backbones import BACKBONES, Backbone, find_backbone, find_stem
    from attnsearch.blocks.hosts.construct import (
        check_task,
        decoder_arguments,
        host_arguments,
        host_constructor,
    )
    from attnsearch.blocks.hosts.decoders import enlarge
    from attnsearch.blocks.hosts.host import Host
    from attnsearch.blocks.hosts.own import AFTER, own_backbone, places
    from attnsearch.blocks.hosts.patches import PatchBatchNorm
    from attnsearch.blocks.hosts.pyramid import HEADS, decoder_steps, encoder_maps
    from attnsearch.blocks.hosts.scnet import SCBottleneck
    from attnsearch.blocks.hosts.setting import weights_file
    from attnsearch.blocks.hosts.sizes import Size, Width, as_size, as_width, halved, size_name
    from attnsearch.blocks.hosts.weights import Baseline, load_weights, rename_fault

face(__name__)
