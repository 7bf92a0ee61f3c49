"""Folds of one data set share most of their training images, so their scores are correlated."""


def nadeau_bengio_factor(folds: int, test_to_train: float) -> float:
    """Return the variance of the mean over folds in the folds' own: 1/J + n_test/n_train.

    Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003: two
    folds' scores correlate by about n_test / (n_test + n_train), which the plain 1/J ignores.

    Args:
        folds: J.
        test_to_train: n_test / n_train, the mean over the folds.
    """
    return 1 / folds + test_to_train
