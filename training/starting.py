"""Where a search begins other than at its usual place: at the weights of a policy file.

A policy that is in service is the best guess at the next one, so a search that begins there has only to follow what has
changed. It can be done with a *weighing* network (`value_network`), whose weights stand in the file as they are, folded
into other shapes by the export; whether they were read rightly is seen by comparing the scores.
"""

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from extender.policies.onnx import OnnxPolicy
from extender.valuation import COLUMNS, FULLNESS_STEPS, LEVEL_TERMS, NODE_TERMS, POD_KINDS, PROFILE
from training.value_network import DEGREES, ValueNetwork, scores_of

ROWS = 64
TOLERANCE = 1e-3
PREFIX = "network."


class StartError(ValueError):
    """A search cannot begin at this policy; the message says why."""


def network_of(policy: OnnxPolicy) -> ValueNetwork:
    """The weighing network that a policy file was exported from.

    Args:
        policy: the file.

    Raises:
        StartError: it holds another kind of network, or one that other code has made.
    """
    if not policy.weighs:
        raise StartError(f"{policy.name}: a search can begin at a weighing network only (network.kind=weighing)")
    arrays = {
        each.name: numpy_helper.to_array(each) for each in onnx.load_from_string(policy.content).graph.initializer
    }
    named = {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
    folded = [array for name, array in arrays.items() if not name.startswith(PREFIX) and array.ndim == 2]
    degrees, adapts = len(named.get("level", ())), "level_by_profile" in named
    if not 1 <= degrees <= DEGREES:
        raise StartError(f"{policy.name}: its weights are not those of a network that is made here")
    network = ValueNetwork(degrees, adapts)
    wanted = {
        "node": (degrees * len(POD_KINDS), len(NODE_TERMS)),
        "estimated": (FULLNESS_STEPS * (1 + len(PROFILE)), len(LEVEL_TERMS)),
        **({"node_by_profile": (len(PROFILE) * len(POD_KINDS), len(NODE_TERMS))} if adapts else {}),
    }
    for name, shape in wanted.items():
        if name not in named:
            found = [array for array in folded if array.shape == shape]
            if len(found) != 1:
                raise StartError(f"{policy.name}: {len(found)} of its weights could be {name!r} of such a network")
            named[name] = found[0]
    with torch.no_grad():
        for name, values in {**dict(network.named_parameters()), "estimated": network.estimated}.items():
            if values.numel():
                values.copy_(torch.from_numpy(named[name].copy()).reshape(values.shape))
    _compare(network, policy)
    return network


def _compare(network: ValueNetwork, policy: OnnxPolicy) -> None:
    columns = np.random.default_rng(0).random((ROWS, len(COLUMNS)), dtype=np.float32)
    columns[:, -len(PROFILE) - 1 :] = columns[0, -len(PROFILE) - 1 :]  # the situation is the same for all candidates
    ours = scores_of(network)(columns[None])[0]
    theirs = policy.score_features(columns)
    difference = float(np.abs(ours - theirs).max())
    if difference > TOLERANCE * max(float(np.abs(theirs).max()), 1.0):
        raise StartError(f"{policy.name}: its weights, read back, give other scores (by {difference:.2g})")
