"""The label of the nearest neighbours as a predictor: by composition alone, or by any other vectors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloud_hf.baselines import tree_features
from cloud_hf.errors import CloudError

__all__ = ["NEIGHBOURS", "composition_vectors", "neighbour_predictions"]

NEIGHBOURS = 5
"""Crystals whose labels are averaged."""

Numbers = NDArray[np.float64]


def composition_vectors(scopes: Sequence[str]) -> NDArray[np.float32]:
    """Return what tells compositions apart: mean, spread and extremes of elemental properties, weighted by fractions.

    Args:
        scopes: SCOPE strings of any grammar, n in number.

    Returns:
        Shape (n, m), columns of comparable scale over the periodic table. Nothing of the symmetry is in it.
    """
    features, names = tree_features(scopes)
    first, last = names.index("mean_Z"), names.index("space_group_1")
    return np.ascontiguousarray(features[:, first:last])


def neighbour_predictions(
    train: NDArray[np.float32], labels: Numbers, others: NDArray[np.float32], k: int = NEIGHBOURS
) -> Numbers:
    """Predict rows by the mean label of their nearest rows of the training, by the Euclidean distance.

    Args:
        train: Vectors, shape (n, m); each column is scaled to unit variance over these rows.
        labels: Shape (n,), NaN where there is none: such rows are no neighbours.
        others: Vectors of the rows to predict, shape (l, m).
        k: Neighbours.

    Returns:
        Shape (l,).

    Raises:
        CloudError: scikit-learn is not installed, or no row has a label.
    """
    try:
        from sklearn.neighbors import NearestNeighbors
    except ImportError as error:
        raise CloudError(
            "Neighbours need scikit-learn, which is not installed: pip install 'cloud-hf[baselines]'."
        ) from error
    labelled = ~np.isnan(labels)
    if not labelled.any():
        raise CloudError("no row of the training has a label.")
    scale = train[labelled].std(axis=0)
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    index = NearestNeighbors(n_neighbors=min(k, int(labelled.sum())), algorithm="brute").fit(train[labelled] / scale)
    places = index.kneighbors(others / scale, return_distance=False)
    return np.asarray(labels[labelled][places].mean(axis=1), dtype=float)
