"""How much each feature has to do with a candidate's score.

A weighing policy adds up terms, so a term's part is the term times its weight, and the parts of a candidate add up to
its score. Any other policy is asked again with one feature at a time set to its mean over these candidates; how much
higher the score was with the candidate's own value is that feature's part. Those parts need not add up to anything.
Source of the second manner: occlusion, Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014.
"""

from typing import NamedTuple

import numpy as np

from extender.features import FeatureArray
from extender.policies.kept import weights_in
from extender.policies.onnx import OnnxPolicy
from extender.valuation import TERMS


class Contributions(NamedTuple):
    """Parts of scores.

    Attributes:
        manner: "weights" or "occlusion".
        names: of the features.
        values: (K, len(names)) float32, what the policy was told.
        parts: (K, len(names)) float32.
    """

    manner: str
    names: tuple[str, ...]
    values: FeatureArray
    parts: FeatureArray


def contributions(policy: OnnxPolicy, inputs: FeatureArray) -> Contributions:
    """The parts of the candidates' scores.

    Args:
        policy: the policy.
        inputs: (K, F) float32, what it was told of K candidates of one decision.
    """
    names = policy.metadata.feature_names
    if policy.weighs:
        weights = weights_in(inputs[0, len(TERMS) :], policy.score_features)
        if weights is not None:
            terms = inputs[:, : len(TERMS)]
            return Contributions("weights", names[: len(TERMS)], terms, terms * weights)
    own = policy.score_features(inputs)
    parts = np.empty_like(inputs)
    for feature in range(inputs.shape[1]):
        without = inputs.copy()
        without[:, feature] = inputs[:, feature].mean()
        parts[:, feature] = own - policy.score_features(without)
    return Contributions("occlusion", names, inputs, parts)
