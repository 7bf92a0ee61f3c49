"""From a resolved config to a network.

architecture  What is inserted where, as one plain dict
catalog       Finds blocks by name, and reads what a block's class says about itself
sources       The source of a user's block: its file, and what that imports from beside it
sites         The backbones, and the sites in them where a block can stand
chain         The blocks that are added at one site, and how they can start as the identity
initialise    Initial weights that depend on the seed and the tensor's state-dict name alone
network       From a resolved config to a network
definitions   The definitions that some classes rest on, gathered from their modules into one text
written       The network of a config as Python text that needs no attnsearch
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.blocks.build.architecture import (
        Insertion,
        canonical_architecture,
        complete,
        expand,
    )
    from attnsearch.blocks.build.catalog import (
        SUPPLIED,
        block_names,
        can_replace,
        find_block,
        find_function,
        hyperparameters,
        parameter_docs,
        summary,
        takes_size,
    )
    from attnsearch.blocks.build.initialise import isolated_rng, shapes_only
    from attnsearch.blocks.build.network import (
        DEFAULT_AUX_WEIGHT,
        Images,
        build_network,
        build_plain,
        check_fit,
        has_gate,
        shape_or_type,
        side_outputs,
    )
    from attnsearch.blocks.build.sites import (
        Site,
        backbone_sites,
        config_sites,
        match,
        network_sites,
    )
    from attnsearch.blocks.build.sources import source_files, source_hash
    from attnsearch.blocks.build.written import Written, write_network

face(__name__)
