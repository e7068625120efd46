"""Boosted trees of the verdict: fitted by LightGBM, shipped as integers.

Ke G et al., LightGBM: a highly efficient gradient boosting decision tree. NeurIPS 2017. Its trees ask whether an
integer feature is above a number, so whole thresholds lose nothing; leaves are rounded to 1/1024 octave.

It deliberately chooses nothing by looking at the records it is scored on.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.probability import OCTAVE
from einthoven.verdict_tables import CLASSES, Forest, Trees, pack
from einthoven_conversion.errors import DependencyMissing

OCTAVES_OF_NAT = OCTAVE / math.log(2)
"""A logit of 1 in 1/1024 octave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestRecipe:
    """How the trees are grown.

    Attributes:
        rounds: Boosting rounds; each grows a tree a class.
        depth: Questions from root to leaf.
        learning_rate: Shrinkage.
        least_records: In a leaf.
        record_share: Drawn anew each round.
        feature_share: Drawn anew each tree.
        leaf_penalty: L2 penalty of leaves.
        noisy_weight: Weight of a record's copy with noise, against 1 for the clean one.
        seed: Of both draws.
    """

    rounds: int = 300
    depth: int = 3
    learning_rate: float = 0.04
    least_records: int = 20
    record_share: float = 0.7
    feature_share: float = 0.3
    leaf_penalty: float = 5.0
    noisy_weight: float = 0.3
    seed: int = 1906

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def grow(
    recipe: ForestRecipe, features: NDArray[np.int64], labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Fit the trees; a nested description of each, class after class, round after round.

    Raises:
        DependencyMissing: LightGBM is not installed.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise DependencyMissing("LightGBM is not installed", "pip install 'einthoven[conversion]'") from error
    parameters = {
        "objective": "multiclass",
        "num_class": CLASSES,
        "learning_rate": recipe.learning_rate,
        "max_depth": recipe.depth,
        "num_leaves": 2**recipe.depth,
        "min_child_samples": recipe.least_records,
        "bagging_fraction": recipe.record_share,
        "bagging_freq": 1,
        "feature_fraction": recipe.feature_share,
        "lambda_l2": recipe.leaf_penalty,
        "seed": recipe.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }
    grown = lightgbm.train(
        parameters, lightgbm.Dataset(features.astype(np.float64), labels, weight=weights), recipe.rounds
    )
    return [tree["tree_structure"] for tree in grown.dump_model()["tree_info"]]


def as_integers(structures: list[dict[str, Any]], depth: int, temperature: float) -> Forest:
    """Perfect trees with whole thresholds, leaves divided by the temperature."""
    nodes = 2**depth - 1
    features = np.zeros((len(structures), nodes), np.intp)
    thresholds = np.full((len(structures), nodes), 2**15 - 1, np.int64)
    leaves = np.zeros((len(structures), nodes + 1), np.int64)

    def place(tree: int, node: int, structure: dict[str, Any]) -> None:
        if "leaf_value" in structure:
            # A leaf above the lowest level: whichever way its empty questions go, the same leaf is reached.
            first, last = node, node
            while first < nodes:
                first, last = 2 * first + 1, 2 * last + 2
            value = round(structure["leaf_value"] * OCTAVES_OF_NAT / temperature)
            leaves[tree, first - nodes : last - nodes + 1] = value
            return
        features[tree, node] = structure["split_feature"]
        thresholds[tree, node] = min(max(math.floor(structure["threshold"]), -(2**15)), 2**15 - 1)
        place(tree, 2 * node + 1, structure["left_child"])
        place(tree, 2 * node + 2, structure["right_child"])

    for tree, structure in enumerate(structures):
        place(tree, 0, structure)
    return Forest(features, thresholds, leaves, depth)


def pack_forest(forest: Forest) -> Trees:
    """As it ships."""
    return Trees(
        depth=forest.depth,
        count=len(forest.features),
        features=pack(forest.features.astype(np.int64), "u1"),
        thresholds=pack(forest.thresholds, "<i2"),
        leaves=pack(forest.leaves, "<i2"),
    )
