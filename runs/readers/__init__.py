"""From a user's files, or a built-in set, to a `Source`: all examples, and their split if any.

table        Which reader takes a source: one table, a built-in set or a format of files each in
             its line
source       What a reader of images returns: all examples of a source, and the split it came with
built_in     The data sets that come with attnsearch: digits and scenes; no download
arrays       Arrays of images and labels to a source
npz          Files of arrays in MedMNIST's layout (Yang et al., Scientific Data 2023,
             doi:10.1038/s41597-022-01721-8)
walking      What is visible in a folder, which folders are parts of a split, and names that are no
             text
folders      Folders of class folders, with or without a split
label_tables Folders of images with a table of what each shows: any number of classes an image
mask_folder  Folders of images and masks: see `mask_layouts` for the layout, `masks` for the values
tiling       Where the tiles of an image lie, and how each is cut out
mask_pairs   Which mask belongs to which image of a source
mask_layouts Where images and their masks lie: the layouts that people have
mask_colors  Colour-coded masks, by a palette
mask_names   How masks are named after their images
mask_files   One mask file to its values, before anything is said about what they mean
masks        Mask files to class indices: one rule for a whole source, and no value is ever blended
images       Image files to pixels of one kind, and the rules of every conversion
cache        Decoded sources on disk, so that a folder of images is decoded once and not at every
             start
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.readers.arrays import ALL, arrays_source, factor_of, names_of, opaque
    from attnsearch.runs.readers.folders import (
        class_folders_with_masks,
        classes_in_doubt,
        classes_there,
    )
    from attnsearch.runs.readers.images import (
        SUFFIXES,
        Crop,
        Decoded,
        attempt_all,
        decode,
        resize,
        shallow,
        surroundings,
        to_channels,
        to_uint8,
    )
    from attnsearch.runs.readers.label_tables import called_in
    from attnsearch.runs.readers.mask_colors import propose_colors
    from attnsearch.runs.readers.mask_files import MaskFile, decode_mask
    from attnsearch.runs.readers.mask_folder import scored_sentence, tile, whole_masks
    from attnsearch.runs.readers.mask_layouts import is_image_side, is_mask_side, without_masks
    from attnsearch.runs.readers.mask_pairs import (
        find_pairs,
        is_mask_folder,
        masks_among,
        masks_beside,
    )
    from attnsearch.runs.readers.masks import (
        IgnoreIndexError,
        MaskValuesError,
        check_found,
        find_coding,
    )
    from attnsearch.runs.readers.npz import is_npz, read_pictures
    from attnsearch.runs.readers.source import (
        IGNORED,
        NO_PART,
        PARTS,
        DataError,
        Given,
        Masks,
        Source,
        class_key,
        listing,
        scored_classes,
    )
    from attnsearch.runs.readers.table import (
        READERS,
        Reader,
        for_evaluation,
        for_training,
        native_shapes,
        read_source,
        several_labels,
    )
    from attnsearch.runs.readers.tiling import tile_corners
    from attnsearch.runs.readers.walking import check_names, named_parts, walk

face(__name__)
