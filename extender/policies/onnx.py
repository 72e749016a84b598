"""Policies from ONNX files: verified against the features we serve before a single pod is scored with them.

A policy file is data: one graph from `candidates (N, F) float32` to `scores (N,) float32`, and metadata that say which
features, resources and typical pods it was trained with. `training.export` writes such files; whatever does not agree
with this extender's features is refused with the field that differs.
"""

import copy
import hashlib
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnxruntime

from extender.features import SCHEMA_VERSION, FeatureArray, feature_names, placement_features
from extender.fragmentation import FloatArray, TypicalPods, fragmentation_tables
from extender.placement import GPU, Candidates, IntArray, NodeArrays, PodRequest
from extender.policies.base import PolicyError, ScoreArray
from extender.policies.operators import check_operators
from extender.policies.worker import DeadlineError, Worker
from extender.typical import Records, typical_arrays
from extender.valuation import COLUMNS, WorkloadProfile, valuation_columns, workload_profile

INPUT, OUTPUT = "candidates", "scores"
FIRST_RESOURCES = ("cpu", "memory", "gpu")  # the columns that `placement` knows by their position
MAX_BYTES = 1024 * 1024
OPTIONAL = ("trained_on",)  # metadata that older files do not have
WARM_UP_ROWS = (1, 2, 500)
INVENTORY_CHANGE = 0.01  # share of a resource, or of a model's devices, from which on it is another cluster
_NUMBER = r"^\[ONNXRuntimeError\] : \d+ : \w+ : "
_PLACE = r"(?:.*?\S+\.(?:cc|cpp|h):\d+ .*?\)(?: const)? (?=[A-Z\"'(]))?"  # a file, a line, a function's signature
WARM_UP_SECONDS = 5.0  # a policy that takes longer would never score a pod in time


class FeatureHistogram(msgspec.Struct, frozen=True):
    """How the pods of a training were distributed in one feature.

    Attributes:
        edges: upper ends of the bins, ascending; the last bin has none. What equals an edge is in the bin below it.
        shares: of the pods in each bin, one more than edges.
        pods: how many there were.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    pods: int


class PolicyMetadata(msgspec.Struct, frozen=True):
    """What a policy file says about itself; every field is a JSON string in the file's metadata.

    Attributes:
        schema_version: version of the features' meaning.
        feature_names: columns of the input, in order.
        resources: names, in the order of the features.
        typical_pods: the workload's typical pods, for the fragmentation features.
        algorithm: what trained it.
        config_digest: SHA-256 of the training configuration.
        code_version: version of Stowage that wrote the file.
        workload: what it was trained on.
        evaluation: summary of its evaluation, empty if there was none.
        weights_sha256: SHA-256 over the weights, in the graph's order.
        trained_on: the pods of the training, a histogram per feature (`training.workloads.distribution`); None in files
            that do not say. Nothing is served by it: it tells later whether a cluster's pods are others by now.
    """

    schema_version: int
    feature_names: tuple[str, ...]
    resources: tuple[str, ...]
    typical_pods: Records
    algorithm: str
    config_digest: str
    code_version: str
    workload: str
    evaluation: dict[str, Any]
    weights_sha256: str
    trained_on: dict[str, FeatureHistogram] | None = None

    def to_properties(self) -> dict[str, str]:
        """The metadata as ONNX holds them: a JSON string each."""
        said = [field for field in self.__struct_fields__ if field not in OPTIONAL or getattr(self, field) is not None]
        return {field: msgspec.json.encode(getattr(self, field)).decode() for field in said}

    @classmethod
    def from_properties(cls, properties: dict[str, str]) -> "PolicyMetadata":
        """Read the metadata of a file.

        Raises:
            PolicyError: a field is missing or has another type.
        """
        missing = [field for field in cls.__struct_fields__ if field not in properties and field not in OPTIONAL]
        if missing:
            raise PolicyError(f"metadata lack {', '.join(missing)}; was the file written by `python -m training.run`?")
        try:
            values = {
                field: msgspec.json.decode(properties[field]) for field in cls.__struct_fields__ if field in properties
            }
            return msgspec.convert(values, cls)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise PolicyError(f"metadata cannot be read: {error}") from error


class OnnxPolicy:
    """A trained policy.

    Attributes:
        name: the file's name without its ending.
        content: the file.
        digest: SHA-256 of the file.
        metadata: what the file says about itself.
        tables: the workload's typical pods, which the fragmentation features are measured against; until
            `for_workload` names the GPU models, for nodes of which none is known.
        weighs: whether its inputs are the columns of `valuation`, else they are those of `features`.
    """

    def __init__(self, name: str, content: bytes) -> None:
        self.name = name
        self.content = content
        self.digest = hashlib.sha256(content).hexdigest()
        try:
            check_operators(content)
        except PolicyError as error:
            raise PolicyError(f"{name}: {error}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a few hundred small rows: more threads only add hand-overs
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            raise PolicyError(f"{name}: not a graph that ONNX Runtime can load: {without_source(error)}") from error
        try:
            self.metadata = PolicyMetadata.from_properties(self._session.get_modelmeta().custom_metadata_map)
            self._verify()
        except PolicyError as error:
            raise PolicyError(f"{name}: {error}") from error
        self.weighs = self.metadata.feature_names == COLUMNS
        self._know(typical_arrays(self.metadata.typical_pods))
        worker = Worker("warm-up")
        try:
            for rows in WARM_UP_ROWS:
                self._warm_up(rows, worker)
        finally:
            worker.stop()

    @property
    def resources(self) -> tuple[str, ...]:
        """Names of the resources, in the order of the node arrays."""
        return self.metadata.resources

    def for_workload(self, models: Sequence[str], recent: Records = ()) -> "OnnxPolicy":
        """The same policy, with the same session, for these GPU models and typical pods; see `base.WorkloadAware`."""
        bound = copy.copy(self)
        bound._know(typical_arrays(recent or self.metadata.typical_pods, models))
        return bound

    def scores(self, nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> ScoreArray:
        """Score the candidates; (K,) float32."""
        return self.score_features(self.inputs(nodes, pod, candidates))

    def inputs(self, nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> FeatureArray:
        """What the graph is told of the candidates; (K, F) float32."""
        if self.weighs:
            return valuation_columns(nodes, pod, candidates, self.tables, self.profile_of(nodes))
        return placement_features(nodes, pod, candidates, self.tables)

    def score_features(self, features: FeatureArray, run_options: onnxruntime.RunOptions | None = None) -> ScoreArray:
        """Score rows of features; (K, F) -> (K,) float32.

        Args:
            features: of the candidates.
            run_options: ONNX Runtime's; setting `terminate` there ends the computation from another thread.
        """
        scores: ScoreArray = self._session.run((OUTPUT,), {INPUT: features}, run_options)[0]
        return scores

    def score_decisions(self, features: FeatureArray) -> ScoreArray:
        """Score several decisions; (B, K, F) -> (B, K) float32."""
        return np.array([self.score_features(candidates) for candidates in features], np.float32)

    def _know(self, typical: TypicalPods) -> None:
        self._typical = typical
        self.tables = fragmentation_tables(typical)
        self._profile: WorkloadProfile | None = None
        self._offered: FloatArray = np.zeros(0)  # when the profile was made: each resource, each model's thousandths
        self._largest: IntArray = np.zeros(0, np.int64)

    def profile_of(self, nodes: NodeArrays) -> WorkloadProfile:
        """The profile on this cluster; the same object until what the nodes offer has changed by `INVENTORY_CHANGE`.

        A profile costs milliseconds, and whatever was computed with the one before has to be computed again: in a large
        cluster nodes come and go all the time, and one of them makes no difference.
        """
        models = self._typical.admits.shape[1]
        devices = np.bincount(nodes.model, weights=nodes.allocatable[:, GPU], minlength=models)
        offered = np.concatenate((nodes.allocatable.sum(axis=0), devices))
        largest = nodes.allocatable.max(axis=0)
        if (
            self._profile is None
            or not np.array_equal(largest, self._largest)
            or not np.allclose(offered, self._offered, rtol=INVENTORY_CHANGE, atol=0.0)
        ):
            self._profile, self._offered, self._largest = workload_profile(self._typical, nodes), offered, largest
        return self._profile

    def _warm_up(self, rows: int, worker: Worker) -> None:
        features = np.zeros((rows, len(self.metadata.feature_names)), np.float32)
        try:
            scores = score_in_time(self, features, worker, time.perf_counter() + WARM_UP_SECONDS)
        except DeadlineError as error:
            raise PolicyError(f"{self.name}: {rows} candidates: {error}") from error
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            raise PolicyError(f"{self.name}: cannot score {rows} candidates: {without_source(error)}") from error
        if scores.shape != (rows,) or not np.all(np.isfinite(scores)):
            raise PolicyError(f"{self.name}: {rows} candidates got {scores}, expected {rows} finite score(s)")

    def _verify(self) -> None:
        metadata = self.metadata
        if metadata.schema_version != SCHEMA_VERSION:
            raise PolicyError(f"schema_version is {metadata.schema_version}, this extender serves {SCHEMA_VERSION}")
        if metadata.resources[: GPU + 1] != FIRST_RESOURCES:
            raise PolicyError(f"resources are {metadata.resources}, expected {FIRST_RESOURCES} first")
        expected = COLUMNS if metadata.feature_names[:1] == COLUMNS[:1] else feature_names(metadata.resources)
        for position, (given, wanted) in enumerate(zip(metadata.feature_names, expected, strict=False)):
            if given != wanted:
                raise PolicyError(f"feature_names[{position}] is {given!r}, this extender computes {wanted!r}")
        if len(metadata.feature_names) != len(expected):
            raise PolicyError(f"feature_names has {len(metadata.feature_names)} entries, expected {len(expected)}")
        for kind, ports, name, rank in (
            ("input", self._session.get_inputs(), INPUT, 2),
            ("output", self._session.get_outputs(), OUTPUT, 1),
        ):
            found = [(port.name, port.type, len(port.shape)) for port in ports]
            if found != [(name, "tensor(float)", rank)]:
                raise PolicyError(f"{kind} is {found}, expected one float tensor {name!r} of {rank} dimension(s)")
        if self._session.get_inputs()[0].shape[1] != len(expected):
            raise PolicyError(f"input has {self._session.get_inputs()[0].shape[1]} columns, expected {len(expected)}")


class Described(NamedTuple):
    """A policy and what it was told of some candidates, (K, F) float32."""

    policy: OnnxPolicy
    inputs: FeatureArray


def score_in_time(policy: OnnxPolicy, features: FeatureArray, worker: Worker, until: float) -> ScoreArray:
    """`OnnxPolicy.score_features`, but no longer than until then, whatever is in the graph.

    Args:
        policy: the policy.
        features: (K, F) float32.
        worker: whose thread computes.
        until: `time.perf_counter()`.

    Raises:
        DeadlineError: it takes longer; the computation is told to end.
    """
    options = onnxruntime.RunOptions()

    def end() -> None:
        options.terminate = True

    return worker.call(lambda: policy.score_features(features, options), until, end)


def without_source(error: Exception) -> str:
    """What ONNX Runtime says, without its error number and the place in its own source code.

    Example:
        >>> without_source(Exception("[ONNXRuntimeError] : 1 : FAIL : /a/model.cc:256 Model::Model(const T&) No IR 99"))
        'No IR 99'
    """
    return " ".join(re.sub(_NUMBER + _PLACE, "", str(error), flags=re.DOTALL).split())


def load_policy(path: Path) -> OnnxPolicy:
    """Load, verify and warm up a policy file.

    Raises:
        PolicyError: the file is missing, too large, no ONNX graph, or made for other features; the message says which.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise PolicyError(f"{path}: {size} bytes, a policy has at most {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror}") from error
    return OnnxPolicy(path.stem, content)
