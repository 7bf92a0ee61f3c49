"""The names that error messages suggest."""

from attnsearch.blocks.spelling import did_you_mean, nearest

NAMES = ["resnet18", "resnet34", "Gate", "medt"]


def test_the_likest_names_are_suggested_whatever_their_capitals() -> None:
    assert did_you_mean("gat", NAMES) == "; did you mean 'Gate'?"
    assert did_you_mean("RESNET81", NAMES, 2) == "; did you mean 'resnet18' or 'resnet34'?"
    assert did_you_mean("gat", NAMES, show="mine:{}".format) == "; did you mean mine:Gate?"
    assert nearest("resnet17", NAMES) == " (nearest: resnet18, resnet34)"


def test_what_a_name_is_short_for_comes_first() -> None:
    metrics = ["val_auroc", "val_loss", "val_accuracy"]
    assert did_you_mean("val_acc", metrics) == "; did you mean 'val_accuracy'?"


def test_nothing_is_suggested_where_no_name_is_like_it() -> None:
    assert did_you_mean("zzz", NAMES) == nearest(3, NAMES) == ""
    assert did_you_mean("zzz", []) == ""
