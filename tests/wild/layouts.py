"""All layouts of data, by name."""

from tests.wild import with_arrays, with_classes, with_masks
from tests.wild.making import Layout

LAYOUTS: dict[str, Layout] = {
    name: value
    for module in (with_masks, with_classes, with_arrays)
    for name, value in vars(module).items()
    if isinstance(value, Layout)
}
