"""Baselines that a model has to beat: trees on what a SCOPE string says (needs the extra `baselines`)."""

from cloud_hf.baselines.features import ELEMENT_PROPERTIES, tree_features
from cloud_hf.baselines.trees import (
    TARGET_KINDS,
    TREE_MODELS,
    TreeBaseline,
    TreeChoice,
    chosen_trees,
    tree_predictions,
)

__all__ = [
    "ELEMENT_PROPERTIES",
    "TARGET_KINDS",
    "TREE_MODELS",
    "TreeBaseline",
    "TreeChoice",
    "chosen_trees",
    "tree_features",
    "tree_predictions",
]
