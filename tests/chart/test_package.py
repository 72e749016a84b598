"""The chart as a package, and what the schema of its values refuses."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.policies.bundled import PREFIX, bundled_names
from extender.policies.heuristics import HEURISTICS, NEEDS_TYPICAL_PODS
from extender.settings import HEURISTIC_PREFIX, Settings
from tests.chart.rendering import ROOT, HelmError, render, run_helm

pytestmark = pytest.mark.cluster


def test_lint_finds_nothing(helm: Path) -> None:
    run_helm(helm, "lint", "--strict", ROOT)


def test_the_package_holds_the_chart_and_nothing_else(helm: Path, tmp_path: Path) -> None:
    run_helm(helm, "package", ROOT, "--destination", tmp_path)
    (package,) = tmp_path.iterdir()
    with tarfile.open(package) as archive:
        names = {name.removeprefix("stowage/") for name in archive.getnames()}
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "templates").rglob("*") if path.is_file()}
    assert names == {"Chart.yaml", "README.md", "values.yaml", "values.schema.json"} | templates


def leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value, by its path."""
    for name, value in values.items():
        yield (*path, name), value
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))


def property_at(schema: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """What the schema says of a value; empty where it says nothing of its own."""
    for name in path:
        if "$ref" in schema:
            schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
        schema = schema.get("properties", {}).get(name) or schema.get("additionalProperties", {})
    return schema


SCHEMA = json.loads((ROOT / "values.schema.json").read_text())
VALUES = list(leaves(yaml.safe_load((ROOT / "values.yaml").read_text())))


def refusals(helm: Path, values: dict[str, Any]) -> str:
    """What helm says of values that the schema refuses; it names every one of them."""
    with pytest.raises(HelmError, match="values don't meet the specifications") as refused:
        render(helm, values)
    return str(refused.value)


def test_the_schema_knows_every_value() -> None:
    assert [path for path, _ in VALUES if not property_at(SCHEMA, path)] == []


def test_every_misspelt_value_is_refused(helm: Path) -> None:
    amounts = ("requests", "limits")  # these are named by whoever offers them
    paths = [path for path, _ in VALUES if not set(path[:-1]) & set(amounts)]
    said = refusals(helm, {".".join([*path[:-1], f"{path[-1]}Misspelt"]): 1 for path in paths})
    assert [path for path in paths if f"'{path[-1]}Misspelt'" not in said] == []


def test_every_value_of_another_type_is_refused(helm: Path) -> None:
    single = [(path, value) for path, value in VALUES if not (isinstance(value, dict) and value)]
    said = refusals(helm, {".".join(path): [1] if isinstance(value, dict) else {"a": 1} for path, value in single})
    assert [path for path, _ in single if f"'/{'/'.join(path)}" not in said] == []


def test_no_default_is_taken_away_but_where_its_absence_means_something(helm: Path) -> None:
    nullable = {
        "runAsUser",
        "extender.resources.requests.cpu",
        "extender.resources.requests.memory",
        "extender.resources.limits.memory",
        "scheduler.resources.requests.cpu",
        "scheduler.resources.requests.memory",
    }
    single = {".".join(path) for path, value in VALUES if not (isinstance(value, dict) and value)}
    render(helm, dict.fromkeys(nullable))
    said = refusals(helm, dict.fromkeys(single)).splitlines()
    # '/a/b': missing properties 'c', 'd'
    missing = {
        ".".join([*(part for part in line.split("'")[1].split("/") if part), name])
        for line in said
        if "missing propert" in line
        for name in line.partition(": missing ")[2].split("'")[1::2]
    }
    assert single - missing == nullable


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("nameOverride", "My_Name"),
        ("policy.name", "packing"),
        ("policy.name", "bundled:latncy"),
        ("policy.name", "heuristic:fgd"),
        ("policy.name", "policy.onnx"),
        ("policy.from", {"configMap": {"name": "p"}}),
        ("policy.from", {"configMap": {"name": "p", "key": "../p"}}),
        ("policy.from", {"configMap": {"name": "p", "key": "k"}, "secret": {"name": "p", "key": "k"}}),
        ("policy.from", {"hostPath": {"path": "/x"}}),
        ("extender.scoring", {"resource": []}),
        ("extender.fallback", "least-alocated"),
        ("extender.preempt", "least"),
        ("extender.assumeTtl", 0),
        ("extender.logLevel", "verbose"),
        ("extender.extraArgs", ["host=1"]),
        ("extender.extraArgs", ["--deadlin=1"]),
        ("extender.extraArgs", ["--deadline", "1"]),
        ("extender.resources.limits", {"memory": "1gb"}),
        ("extender.resources.limits", {"memroy": "1Gi"}),
        ("scheduler.resources.requests", {"ephemeral_storage": "1Gi"}),
        ("extender.decisionLog", {"enabled": True, "volume": {"persistentVolumeClaim": {"claim": "c"}}}),
        ("extender.decisionLog", {"enabled": True, "volume": {"emptyDir": {"sizelimit": "1Gi"}}}),
        ("extender.decisionLog", {"enabled": True, "volume": {"emptyDir": {}, "hostPath": {"path": "/x"}}}),
        ("extender.decisionLog", {"enabled": True, "volume": {"ephemeral": {"volumeClaimTemplate": {"spec": {}}}}}),
        ("extender.outcome.volume", {"configMap": {"nam": "o"}}),
        ("extender.outcome.volume", {"nfs": {"server": "s"}}),
        ("affinity", {"nodeAfinity": {}}),
        ("affinity", {"nodeAffinity": {"required": {}}}),
        ("affinity", {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}),
        ("networkPolicy.extenderFrom", [{"ipBlock": {"cdir": "10.0.0.0/24"}}]),
        ("networkPolicy.extenderFrom", [{"ipBlock": {"cidr": "10.0.0.1"}}]),
        ("networkPolicy.extenderFrom", [{"ipBlock": {"cidr": "10.0.0.0/24"}, "podSelector": {}}]),
        ("networkPolicy.metricsFrom", [{"namespaceSelector": {"labels": {"team": "monitoring"}}}]),
        ("networkPolicy.metricsFrom", [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "in"}]}}]),
        ("serviceAccount.name", "My_Account"),
        ("scheduler.name", "a..b"),
        ("tls.secretName", "Mine"),
        ("tls.selfSigned.renewal.schedule", "@fortnightly"),
        ("tls.selfSigned.renewal.schedule", "23 4 * *"),
        ("tls.selfSigned.renewal.schedule", "63 4 * * *"),
        ("tls.selfSigned.renewal.schedule", "a b c d e"),
        ("scheduler.percentageOfNodesToScore", 0),
        ("scheduler.percentageOfNodesToScore", 101),
        ("scheduler.percentageOfNodesToScore", "50"),
        ("scheduler.weight", 0),
        ("scheduler.timeout", "1"),
        ("tls.selfSigned.days", 2),
        ("tls.selfSigned.days", 3651),
        ("service.clusterIP", "abc"),
        ("service.clusterIP", "10.0.0"),
        ("service.clusterIP", "10.0.0.256"),
        ("service.clusterIP", "none"),
        ("priorityClassName", "Very_Important"),
        ("replicas", -1),
        ("replicas", 1.5),
        ("image.pullPolicy", "Sometimes"),
        ("podDisruptionBudget.maxUnavailable", "150%"),
        ("runAsUser", 0),
        ("podLabels", {"app.kubernetes.io/name": "other"}),
        ("podLabels", {"app.kubernetes.io/instance": "other"}),
        ("podAnnotations", {"checksum/scheduler": "0"}),
        ("metrics.serviceMonitor.labels", {"helm.sh/chart": "other"}),
        ("tolerations", [{"ky": "x"}]),
        ("topologySpread.whenUnsatisfiable", "Never"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(helm: Path, path: str, value: object) -> None:
    with pytest.raises(HelmError, match=r"values don't meet the specifications"):
        render(helm, {path: value})


@pytest.mark.parametrize(
    "values",
    [
        {
            "extender.decisionLog": {"enabled": True, "volume": {"emptyDir": {"sizeLimit": "1Gi"}}},
            "extender.outcome.volume": {"nfs": {"server": "files.example", "path": "/outcome", "readOnly": True}},
            "extender.resources.limits": {"cpu": 2, "ephemeral-storage": "1Gi", "example.com/thing": 1},
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}
            },
            "networkPolicy.extenderFrom": [{"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.0.8/30"]}}],
            "service.clusterIP": "fd00::a",
            "tls.selfSigned.renewal.schedule": "*/15 0-4,22 1 JAN-mar mon",
        },
        {
            "extender.decisionLog": {
                "enabled": True,
                "volume": {
                    "ephemeral": {
                        "volumeClaimTemplate": {
                            "spec": {
                                "accessModes": ["ReadWriteOnce"],
                                "storageClassName": "fast",
                                "resources": {"requests": {"storage": "1Gi"}},
                            }
                        }
                    }
                },
            },
            "extender.outcome.volume": {"csi": {"driver": "d.example", "volumeAttributes": {"a": "b"}}},
            "networkPolicy.metricsFrom": [
                {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}}
            ],
            "service.clusterIP": "None",
            "tls.selfSigned.renewal.schedule": "@daily",
            "serviceAccount.name": "a.b-c",
        },
    ],
)
def test_what_kubernetes_takes_is_taken(helm: Path, values: dict[str, Any]) -> None:
    render(helm, {"scheduler.enabled": False} | values)


def test_the_flags_that_may_be_added_are_the_extenders() -> None:
    pattern = property_at(SCHEMA, ("extender", "extraArgs"))["items"]["pattern"]
    assert pattern == f"^--({'|'.join(name.replace('_', '-') for name in Settings.model_fields)})="


def test_the_policies_that_may_be_named_are_those_that_there_are() -> None:
    bundled = [f"{PREFIX}{name}" for name in bundled_names()]
    rules = [f"{HEURISTIC_PREFIX}{name}" for name in sorted(HEURISTICS)]
    assert property_at(SCHEMA, ("policy", "name"))["enum"] == bundled + rules
    assert property_at(SCHEMA, ("extender", "fallback"))["enum"] == sorted([*HEURISTICS, *NEEDS_TYPICAL_PODS])
