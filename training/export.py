"""From a trained score network to a policy file, checked against the network it came from.

Only the score network goes into the file. It takes the features as they are and any number of candidates; what the
extender must know beside the graph stands in the file's metadata (`extender.policies.onnx.PolicyMetadata`).
"""

import hashlib
import logging
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from extender.features import SCHEMA_VERSION, feature_names
from extender.fragmentation import TypicalPods
from extender.policies.onnx import INPUT, MAX_BYTES, OUTPUT, FeatureHistogram, OnnxPolicy, PolicyMetadata
from extender.typical import TypicalPodRecord
from extender.valuation import COLUMNS
from extender.whole_file import put_whole
from training.value_network import ValueNetwork

OPSET = 18
IR_VERSION = 10
PARITY_ROWS = (1, 5, 100, 5000)
PARITY_TOLERANCE = 1e-4


class _CandidatesOnly(nn.Module):
    """The score network as served: one decision, no padding."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, candidates: Tensor) -> Tensor:
        return self.network(candidates.unsqueeze(0)).squeeze(0)


def export_policy(
    network: nn.Module,
    path: Path,
    *,
    resources: tuple[str, ...],
    typical: TypicalPods,
    models: tuple[str, ...],
    algorithm: str,
    config_digest: str,
    workload: str,
    evaluation: dict[str, Any] | None = None,
    trained_on: dict[str, FeatureHistogram] | None = None,
) -> OnnxPolicy:
    """Write a policy file and load it back as the extender would.

    Args:
        network: what scores, `networks.ScoreNetwork` or `value_network.ValueNetwork`.
        path: the file to write; it appears whole or not at all.
        resources: names, in the order of the features.
        typical: the workload's typical pods.
        models: names of the GPU models that `typical.admits` is about.
        algorithm: what trained it.
        config_digest: SHA-256 of the training configuration.
        workload: what it was trained on.
        evaluation: summary of its evaluation; where that needs the file first, see `add_evaluation`.
        trained_on: the pods of the training, feature by feature.

    Returns:
        the policy in the file.

    Raises:
        ValueError: the file's scores differ from the network's, or it is larger than a policy may be.
    """
    network = network.eval()
    served = _CandidatesOnly(network)
    names = COLUMNS if isinstance(network, ValueNetwork) else feature_names(resources)
    example = torch.zeros(7, len(names))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about its own internals
        program = torch.onnx.export(
            served,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={"candidates": {0: torch.export.Dim("N", min=1)}},
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    model = program.model_proto
    model.ir_version = IR_VERSION
    metadata = PolicyMetadata(
        schema_version=SCHEMA_VERSION,
        feature_names=names,
        resources=resources,
        typical_pods=tuple(
            TypicalPodRecord(int(cpu), int(count), int(milli), float(share), _named(admits, models))
            for cpu, count, milli, share, admits in zip(*typical, strict=True)
            if share > 0
        ),
        algorithm=algorithm,
        config_digest=config_digest,
        code_version=version("stowage"),
        workload=workload,
        evaluation=evaluation or {},
        weights_sha256=weights_digest(model),
        trained_on=trained_on,
    )
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]  # the exporter leaves its stack traces there
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata.to_properties())
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    policy = OnnxPolicy(path.stem, content)
    check_parity(served, policy, len(names))
    return _write(path, content)


def add_evaluation(path: Path, evaluation: dict[str, Any]) -> OnnxPolicy:
    """Write the summary of a policy's evaluation into its file; returns the policy in the file."""
    model = onnx.load(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    metadata = msgspec.structs.replace(PolicyMetadata.from_properties(properties), evaluation=evaluation)
    onnx.helper.set_model_props(model, metadata.to_properties())
    return _write(path, model.SerializeToString())


def _write(path: Path, content: bytes) -> OnnxPolicy:
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path}: {len(content)} bytes, a policy has at most {MAX_BYTES}; lower network.hidden")
    policy = OnnxPolicy(path.stem, content)
    put_whole(path, content)
    return policy


def weights_digest(model: onnx.ModelProto) -> str:
    """SHA-256 over the graph's weights: name, shape and values of each."""
    digest = hashlib.sha256()
    for initializer in model.graph.initializer:
        values = numpy_helper.to_array(initializer)
        digest.update(f"{initializer.name}{values.shape}{values.dtype}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def check_parity(network: nn.Module, policy: OnnxPolicy, features: int) -> None:
    """Compare the file with the network on random candidates, few and many.

    Raises:
        ValueError: a score differs by more than the tolerance.
    """
    generator = np.random.default_rng(0)
    for rows in PARITY_ROWS:
        candidates = generator.random((rows, features), dtype=np.float32)
        with torch.no_grad():
            wanted = network(torch.from_numpy(candidates)).numpy()
        difference = float(np.abs(policy.score_features(candidates) - wanted).max())
        if difference > PARITY_TOLERANCE:
            raise ValueError(f"exported scores differ by {difference:.2g} from the network's at {rows} candidates")


def _named(admits: np.ndarray, models: tuple[str, ...]) -> tuple[str, ...]:
    """The GPU models that a typical pod admits by name, empty where it admits all."""
    if admits.all():
        return ()
    return tuple(model for model, admitted in zip(models, admits, strict=True) if admitted and model)
