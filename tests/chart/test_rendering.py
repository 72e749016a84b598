"""What each value of the chart does to the objects of a release."""

import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import yaml
from kubernetes import client, config

from extender.settings import Settings
from tests.chart.rendering import ROOT, Document, HelmError, flags, notes, render

pytestmark = pytest.mark.cluster


def test_by_default_kube_scheduler_has_the_extender_as_a_native_sidecar_on_loopback(helm: Path) -> None:
    rendered = render(helm)
    pod = rendered.pod()
    assert [container["name"] for container in pod["initContainers"]] == ["extender"]
    assert pod["initContainers"][0]["restartPolicy"] == "Always"
    assert [container["name"] for container in pod["containers"]] == ["kube-scheduler"]
    assert flags(rendered.extender())["--host"] == "127.0.0.1"
    assert rendered.all("Service") == []


def test_the_scheduler_is_configured_as_the_manifest_is(helm: Path) -> None:
    committed = yaml.safe_load((ROOT / "manifests" / "kube-scheduler" / "configuration.yaml").read_text())
    rendered = render(helm).scheduler_configuration()
    committed["leaderElection"]["resourceNamespace"] = "scheduling"
    assert rendered == committed


def test_the_lease_that_is_made_is_the_one_that_is_led_by(helm: Path) -> None:
    rendered = render(helm, release="other")
    lease = rendered.one("Lease")["metadata"]
    election = rendered.scheduler_configuration()["leaderElection"]
    assert (lease["namespace"], lease["name"]) == (election["resourceNamespace"], election["resourceName"])
    (rule,) = rendered.one("Role")["rules"]
    assert rule["resourceNames"] == [lease["name"]]


def test_kube_scheduler_has_the_version_of_the_cluster(helm: Path) -> None:
    rendered = render(helm, None, "--kube-version=v1.36.1-gke.1234")
    assert rendered.scheduler()["image"] == "registry.k8s.io/kube-scheduler:v1.36.1"


def test_without_a_patch_version_kube_scheduler_has_the_first_of_its_minor_version(helm: Path) -> None:
    rendered = render(helm, None, "--kube-version=1.36")
    assert rendered.scheduler()["image"] == "registry.k8s.io/kube-scheduler:v1.36.0"


def test_an_old_cluster_is_refused(helm: Path) -> None:
    with pytest.raises(HelmError, match=r"incompatible with Kubernetes v1\.32\.0"):
        render(helm, None, "--kube-version=v1.32.0")


def test_every_flag_of_the_extender_is_one_of_its_settings(helm: Path) -> None:
    rendered = render(
        helm,
        {
            "extender.scoring": {"resources": [{"name": "cpu"}]},
            "extender.decisionLog.enabled": True,
            "extender.traces.collector": "http://collector:4318",
            "extender.outcome.volume": {"configMap": {"name": "outcome"}},
            "policy.candidate.configMap": {"name": "candidate", "key": "candidate.json"},
        },
    )
    names = {flag.removeprefix("--").replace("-", "_") for flag in flags(rendered.extender())}
    assert names <= set(Settings.model_fields)


@pytest.mark.parametrize(
    ("value", "given", "flag", "expected"),
    [
        ("policy.name", "heuristic:best-fit", "--policy", "heuristic:best-fit"),
        ("extender.fallback", "best-fit", "--fallback", "best-fit"),
        ("extender.assumeTtl", 12.5, "--assume-ttl", "12.5"),
        ("extender.mode", "shadow", "--mode", "shadow"),
        ("extender.canaryPercent", 2.5, "--canary-percent", "2.5"),
        ("extender.deadline", 0.2, "--deadline", "0.2"),
        ("extender.reservations.after", 60, "--reserve-after", "60"),
        ("extender.reservations.gpus", 4, "--reserve-gpus", "4"),
        ("extender.reservations.ttl", 90.5, "--reservation-ttl", "90.5"),
        ("extender.reservations.events", True, "--reservation-events", "true"),
        ("extender.preempt", "fewest", "--preempt", "fewest"),
        ("extender.traces.collector", "http://collector:4318", "--trace-collector", "http://collector:4318"),
        ("extender.traces", {"collector": "https://c", "share": 0.1}, "--trace-share", "0.1"),
        ("scheduler.name", "gpu", "--scheduler-name", "gpu"),
        ("extender.logLevel", "debug", "--log-level", "debug"),
        ("extender.extraArgs", ["--watch-read-timeout=300"], "--watch-read-timeout", "300"),
        ("metrics.enabled", True, "--host", "::"),
    ],
)
def test_a_value_becomes_the_extenders_flag(helm: Path, value: str, given: object, flag: str, expected: str) -> None:
    assert flags(render(helm, {value: given}).extender())[flag] == expected


def test_scoring_is_handed_over_as_json(helm: Path) -> None:
    scoring = {"resources": [{"name": "cpu", "weight": 1}, {"name": "nvidia.com/gpu", "weight": 5}]}
    rendered = render(helm, {"extender.scoring": scoring})
    assert json.loads(flags(rendered.extender())["--scoring"]) == scoring


@pytest.mark.parametrize(
    ("source", "given", "file", "volume"),
    [
        ("configMap", {"name": "p", "key": "a.onnx"}, "a.onnx", {"configMap": {"name": "p"}}),
        ("secret", {"name": "p", "key": "a.onnx"}, "a.onnx", {"secret": {"secretName": "p"}}),
        (
            "persistentVolumeClaim",
            {"claimName": "p", "path": "x/a.onnx"},
            "x/a.onnx",
            {"persistentVolumeClaim": {"claimName": "p", "readOnly": True}},
        ),
        (
            "image",
            {"reference": "example/p:1", "path": "a.onnx"},
            "a.onnx",
            {"image": {"reference": "example/p:1", "pullPolicy": "IfNotPresent"}},
        ),
    ],
)
def test_a_policy_file_is_mounted_and_served(
    helm: Path, source: str, given: dict[str, str], file: str, volume: dict[str, object]
) -> None:
    rendered = render(helm, {f"policy.from.{source}": given})
    extender = rendered.extender()
    (mount,) = [mount for mount in extender["volumeMounts"] if mount["name"] == "policy"]
    assert mount["readOnly"]
    assert flags(extender)["--policy"] == f"{mount['mountPath']}/{file}"
    assert {"name": "policy"} | volume in rendered.pod()["volumes"]


@pytest.mark.parametrize(
    ("source", "given", "file", "volume"),
    [
        ("configMap", {"name": "c", "key": "c.json"}, "c.json", {"configMap": {"name": "c", "optional": True}}),
        (
            "persistentVolumeClaim",
            {"claimName": "p", "path": "x/c.json"},
            "x/c.json",
            {"persistentVolumeClaim": {"claimName": "p", "readOnly": True}},
        ),
    ],
)
def test_a_candidate_is_looked_for_beside_the_policy(
    helm: Path, source: str, given: dict[str, str], file: str, volume: dict[str, object]
) -> None:
    values = {"policy.from.configMap": {"name": "p", "key": "a.onnx"}, f"policy.candidate.{source}": given}
    rendered = render(helm, values)
    extender = rendered.extender()
    (mount,) = [mount for mount in extender["volumeMounts"] if mount["name"] == "candidate"]
    assert mount["readOnly"]
    assert flags(extender)["--candidate"] == f"{mount['mountPath']}/{file}"
    assert {"name": "candidate"} | volume in rendered.pod()["volumes"]
    assert "--candidate" not in flags(render(helm).extender())


def test_the_decision_log_lies_on_the_volume_that_is_given(helm: Path) -> None:
    volume = {"persistentVolumeClaim": {"claimName": "decisions"}}
    values = {"enabled": True, "volume": volume, "fileBytes": 2048, "files": 3}
    rendered = render(helm, {"extender.decisionLog": values})
    extender = rendered.extender()
    (mount,) = extender["volumeMounts"]
    assert flags(extender)["--decision-log"] == f"{mount['mountPath']}/$(POD_NAME).jsonl"
    assert flags(extender)["--decision-log-file-bytes"] == "2048"
    assert flags(extender)["--decision-log-files"] == "3"
    assert [variable["name"] for variable in extender["env"]] == ["POD_NAME"]
    assert {"name": mount["name"], "persistentVolumeClaim": {"claimName": "decisions"}} in rendered.pod()["volumes"]
    assert "--decision-log" not in flags(render(helm).extender())


def test_the_verdict_is_read_from_the_volume_that_is_given(helm: Path) -> None:
    volume = {"persistentVolumeClaim": {"claimName": "outcome", "readOnly": True}}
    rendered = render(helm, {"extender.outcome": {"volume": volume, "file": "a/v.json", "stepDownAfter": 600}})
    extender = rendered.extender()
    (mount,) = extender["volumeMounts"]
    assert not mount["readOnly"]  # what was stepped down from is kept beside the verdict
    assert flags(extender)["--outcome-file"] == f"{mount['mountPath']}/a/v.json"
    assert flags(extender)["--step-down-after"] == "600"
    assert {"name": mount["name"]} | volume in rendered.pod()["volumes"]
    assert "--outcome-file" not in flags(render(helm).extender())
    (mount,) = render(helm, {"extender.outcome.volume": volume}).extender()["volumeMounts"]
    assert mount["readOnly"]


def test_stepping_down_without_verdicts_is_refused(helm: Path) -> None:
    with pytest.raises(HelmError, match=r"stepDownAfter needs extender\.outcome\.volume"):
        render(helm, {"extender.outcome.stepDownAfter": 600})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"policy.name": "heuristic:best-fit", "extender.fallback": "fgd"},
            r"extender\.fallback=fgd needs the typical",
        ),
        (
            {"policy.name": "bundled:packing", "policy.from.configMap": {"name": "p", "key": "a.onnx"}},
            r"policy\.name=bundled:packing and policy\.from are both given",
        ),
        ({"tls.secretName": "mine"}, r"tls\.secretName=mine needs tls\.source=secret"),
        (
            {"extender.decisionLog.volume.persistentVolumeClaim": {"claimName": "decisions"}},
            r"extender\.decisionLog\.volume is given, but extender\.decisionLog\.enabled=false",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(helm: Path, values: Document, said: str) -> None:
    with pytest.raises(HelmError, match=said):
        render(helm, values)


def test_the_fallback_that_needs_a_policy_file_is_taken_with_one(helm: Path) -> None:
    for policy in ({}, {"policy.from.configMap": {"name": "p", "key": "a.onnx"}}):
        assert flags(render(helm, policy | {"extender.fallback": "fgd"}).extender())["--fallback"] == "fgd"


def test_a_second_scheduler_of_the_clusters_own_name_is_refused(helm: Path) -> None:
    with pytest.raises(HelmError, match=r"scheduler\.name is default-scheduler"):
        render(helm, {"scheduler.name": "default-scheduler"})


@pytest.mark.parametrize(("timeout", "deadline"), [("50ms", 0.05), ("0.5s", 0.6), ("1m1s", 61)])
def test_an_answer_that_kube_scheduler_would_not_wait_for_is_refused(helm: Path, timeout: str, deadline: float) -> None:
    with pytest.raises(HelmError, match=r"extender\.deadline is .* but kube-scheduler waits"):
        render(helm, {"scheduler.timeout": timeout, "extender.deadline": deadline})
    render(helm, {"scheduler.timeout": timeout, "extender.deadline": deadline / 2})


def test_what_kube_scheduler_is_told(helm: Path) -> None:
    values = {
        "scheduler.name": "gpu",
        "scheduler.percentageOfNodesToScore": 50,
        "scheduler.weight": 3,
        "scheduler.timeout": "500ms",
        "scheduler.verbosity": 4,
        "scheduler.extraArgs": ["--kube-api-qps=200"],
        "scheduler.image.tag": "v1.36.9",
    }
    rendered = render(helm, values)
    (profile,) = rendered.scheduler_configuration()["profiles"]
    (extender,) = rendered.scheduler_configuration()["extenders"]
    assert (profile["schedulerName"], profile["percentageOfNodesToScore"]) == ("gpu", 50)
    assert (extender["weight"], extender["httpTimeout"]) == (3, "500ms")
    assert flags(rendered.scheduler()).items() >= {"--v": "4", "--kube-api-qps": "200"}.items()
    assert rendered.scheduler()["image"].endswith(":v1.36.9")


def test_another_configuration_restarts_the_pods(helm: Path) -> None:
    annotations = [
        render(helm, values).one("Deployment")["spec"]["template"]["metadata"]["annotations"]
        for values in ({}, {"scheduler.weight": 2})
    ]
    assert annotations[0] != annotations[1]


def test_metrics_get_a_service_and_a_monitor_that_find_the_port(helm: Path) -> None:
    rendered = render(
        helm, {"metrics": {"enabled": True, "serviceMonitor": {"enabled": True, "labels": {"team": "gpu"}}}}
    )
    service, monitor = rendered.one("Service"), rendered.one("ServiceMonitor")
    pod_labels = rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    (port,) = service["spec"]["ports"]
    assert service["spec"]["selector"].items() <= pod_labels.items()
    assert port["targetPort"] in [port["name"] for port in rendered.extender()["ports"]]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [endpoint["port"] for endpoint in monitor["spec"]["endpoints"]] == [port["name"]]
    assert monitor["metadata"]["labels"]["team"] == "gpu"


def test_a_monitor_without_metrics_is_refused(helm: Path) -> None:
    with pytest.raises(HelmError, match=r"metrics\.serviceMonitor\.enabled needs metrics\.enabled"):
        render(helm, {"metrics.serviceMonitor.enabled": True})


def test_a_network_policy_lets_in_who_is_named_and_nobody_by_default(helm: Path) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}
    closed = render(helm, {"networkPolicy.enabled": True}).one("NetworkPolicy")["spec"]
    assert closed["ingress"] == []
    assert closed["policyTypes"] == ["Ingress"]
    opened = render(helm, {"networkPolicy": {"enabled": True, "metricsFrom": [peer]}, "metrics.enabled": True})
    (rule,) = opened.one("NetworkPolicy")["spec"]["ingress"]
    assert rule["from"] == [peer]
    assert [port["port"] for port in rule["ports"]] == ["extender", "https"]


def test_metrics_that_the_network_policy_lets_nobody_read_are_said_to_be_so(helm: Path) -> None:
    watched = {"metrics.enabled": True, "networkPolicy.enabled": True}
    peers: list[Document] = [{"podSelector": {}}]
    assert "networkPolicy.metricsFrom is empty" in notes(helm, watched)
    for values in ({}, watched | {"networkPolicy.enabled": False}, watched | {"networkPolicy.metricsFrom": peers}):
        assert "metricsFrom" not in notes(helm, values)
    alone = watched | {"scheduler.enabled": False}
    assert "metricsFrom" not in notes(helm, alone)  # everybody reaches the extender, its metrics included
    assert "metricsFrom is empty" in notes(helm, alone | {"networkPolicy.extenderFrom": peers})


def test_a_decision_log_that_goes_with_its_pod_is_said_to_do_so(helm: Path) -> None:
    logged = {"extender.decisionLog.enabled": True}
    assert "extender.decisionLog.volume is empty" in notes(helm, logged)
    kept = logged | {"extender.decisionLog.volume": {"persistentVolumeClaim": {"claimName": "decisions"}}}
    assert "decisionLog" not in notes(helm, kept)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("podDisruptionBudget.enabled", "PodDisruptionBudget"), ("serviceAccount.create", "ServiceAccount")],
)
def test_what_is_turned_off_is_not_there(helm: Path, value: str, kind: str) -> None:
    others = {"serviceAccount.name": "given"}
    assert render(helm).one(kind)
    rendered = render(helm, {value: False} | others)
    assert [document for document in rendered.all(kind) if "test" not in document["metadata"]["name"]] == []
    assert rendered.pod()["serviceAccountName"] == "given"


def test_a_service_account_that_is_not_made_has_to_be_named(helm: Path) -> None:
    with pytest.raises(HelmError, match=r"serviceAccount\.name is missing"):
        render(helm, {"serviceAccount.create": False})


def test_where_the_pods_go(helm: Path) -> None:
    values = {
        "replicas": 3,
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"role": "control"},
        "tolerations": [{"key": "control", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpread.whenUnsatisfiable": "DoNotSchedule",
        "podLabels": {"team": "gpu"},
        "podAnnotations": {"note": "x"},
        "imagePullSecrets": [{"name": "registry"}],
        "podDisruptionBudget.maxUnavailable": "50%",
        "terminationGracePeriodSeconds": 7,
    }
    rendered = render(helm, values)
    deployment, pod = rendered.one("Deployment")["spec"], rendered.pod()
    assert deployment["replicas"] == 3
    for name in ("priorityClassName", "nodeSelector", "tolerations", "imagePullSecrets"):
        assert pod[name] == values[name]
    assert pod["affinity"] == {"nodeAffinity": {}}
    assert pod["terminationGracePeriodSeconds"] == 7
    assert pod["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "DoNotSchedule"
    assert deployment["template"]["metadata"]["labels"]["team"] == "gpu"
    assert deployment["template"]["metadata"]["annotations"]["note"] == "x"
    assert rendered.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == "50%"
    assert "topologySpreadConstraints" not in render(helm, {"topologySpread.enabled": False}).pod()


@pytest.mark.parametrize("scheduler", [True, False])
def test_every_pod_goes_where_the_deployments_may(helm: Path, scheduler: bool) -> None:
    placement = {
        "nodeSelector": {"role": "control"},
        "tolerations": [{"key": "control", "operator": "Exists", "effect": "NoSchedule"}],
    }
    rendered = render(helm, placement | {"scheduler.enabled": scheduler})
    jobs = [job["spec"]["jobTemplate"]["spec"]["template"]["spec"] for job in rendered.all("CronJob")]
    pods = [rendered.pod(), *jobs, *(pod["spec"] for pod in rendered.all("Pod"))]
    assert len(pods) == (2 if scheduler else 3)
    assert [{name: pod.get(name) for name in placement} for pod in pods] == [placement] * len(pods)


def test_the_pod_that_the_test_has_scheduled_goes_there_too_and_ends_with_the_tests_own(
    helm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"nodeSelector": {"role": "control"}, "tolerations": [{"operator": "Exists"}]}
    (pod,) = render(helm, values).all("Pod")
    (container,) = pod["spec"]["containers"]
    taken = {"metadata.name": pod["metadata"]["name"], "metadata.uid": "uid-1"}
    for variable in container["env"]:
        source = variable.get("valueFrom")
        monkeypatch.setenv(variable["name"], taken[source["fieldRef"]["fieldPath"]] if source else variable["value"])
    api = MagicMock()
    api.create_namespaced_pod.side_effect = lambda namespace, made: SimpleNamespace(
        metadata=SimpleNamespace(uid="uid-2")
    )
    api.list_namespaced_event.return_value.items = [SimpleNamespace(reporting_component="stowage")]
    monkeypatch.setattr(config, "load_incluster_config", lambda: None)
    monkeypatch.setattr(client, "CoreV1Api", lambda: api)

    exec(container["args"][0], {})

    (namespace, placed), _ = api.create_namespaced_pod.call_args
    assert namespace == "scheduling"
    assert {name: placed["spec"][name] for name in values} == values
    assert placed["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "stowage-test", "uid": "uid-1"}
    ]


def test_names_follow_the_release_and_can_be_given(helm: Path) -> None:
    assert render(helm, release="a").one("Deployment")["metadata"]["name"] == "a-stowage"
    assert render(helm, {"fullnameOverride": "mine"}).one("Deployment")["metadata"]["name"] == "mine"
    assert render(helm, {"nameOverride": "x"}).one("Deployment")["metadata"]["name"] == "stowage-x"


NAMES = {
    "nameOverride": "name",
    "fullnameOverride": "name",
    "serviceAccount.name": "name",
    "priorityClassName": "name",
    "topologySpread.topologyKey": "name",
    "imagePullSecrets": [{"name": "name"}],
    "podLabels": {"team": "name"},
    "podAnnotations": {"note": "name"},
    "nodeSelector": {"role": "name"},
    "policy.candidate.configMap": {"name": "name", "key": "name"},
    "networkPolicy.enabled": True,
    "metrics": {"enabled": True, "serviceMonitor": {"enabled": True, "labels": {"team": "name"}}},
}
WITH_SCHEDULER = {"scheduler.name": "name", "policy.from.secret": {"name": "name", "key": "name"}}
ALONE = {
    "scheduler.enabled": False,
    "policy.from.persistentVolumeClaim": {"claimName": "name", "path": "name"},
    "tls": {"source": "certManager", "certManager": {"issuerRef": {"name": "name"}}},
}
GIVEN_SECRET = {"scheduler.enabled": False, "tls": {"source": "secret", "secretName": "name"}}


def types(document: object) -> object:
    """A document with the type of each value in the value's place."""
    match document:
        case dict():
            return {name: types(value) for name, value in document.items()}
        case list():
            return [types(value) for value in document]
        case _:
            return type(document)


@pytest.mark.parametrize("values", [WITH_SCHEDULER, ALONE, GIVEN_SECRET], ids=["scheduler", "alone", "given secret"])
@pytest.mark.parametrize("number_like", ["1", "0x10", "true", "null"])
def test_a_name_that_looks_like_something_else_stays_a_name(helm: Path, values: Document, number_like: str) -> None:
    plain, odd = (
        render(
            helm,
            json.loads(json.dumps(NAMES | values).replace(': "name"', f': "{name}"')),
            f"--namespace={name}",
            release=name,
        )
        for name in ("name", number_like)
    )
    assert types(odd.documents) == types(plain.documents)
    assert types(odd.scheduler_configuration()) == types(plain.scheduler_configuration())


def test_a_file_of_any_name_stays_one_argument(helm: Path) -> None:
    values = {
        "policy.from.persistentVolumeClaim": {"claimName": "p", "path": "a: b #c"},
        "extender.outcome": {"volume": {"configMap": {"name": "o"}}, "file": "d: e #f"},
    }
    given = flags(render(helm, values).extender())
    assert given["--policy"].endswith("/a: b #c")
    assert given["--outcome-file"].endswith("/d: e #f")


def test_large_integers_stay_integers(helm: Path) -> None:
    values = {
        "replicas": 1000,
        "terminationGracePeriodSeconds": 86400,
        "runAsUser": 1000000000,
        "podDisruptionBudget.maxUnavailable": 1000,
        "scheduler.weight": 1000000,
        "extender.decisionLog": {"enabled": True, "files": 10000, "fileBytes": 2**40},
    }
    rendered = render(helm, values)
    assert rendered.one("Deployment")["spec"]["replicas"] == 1000
    assert rendered.pod()["terminationGracePeriodSeconds"] == 86400
    assert rendered.pod()["securityContext"]["runAsUser"] == 1000000000
    assert rendered.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1000
    weight = rendered.scheduler_configuration()["extenders"][0]["weight"]
    assert (weight, type(weight)) == (1000000, int)
    given = flags(rendered.extender())
    assert (given["--decision-log-files"], given["--decision-log-file-bytes"]) == ("10000", str(2**40))


def test_no_user_is_set_where_the_cluster_chooses_it(helm: Path) -> None:
    security = render(helm, {"runAsUser": None}).pod()["securityContext"]
    assert "runAsUser" not in security
    assert security["runAsNonRoot"] is True
