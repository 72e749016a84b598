"""The chart without a scheduler of its own: the extender over TLS, for a kube-scheduler that is there already."""

import base64
import ssl
import time
from pathlib import Path

import pytest
import yaml

from extender.renewal import DAYS, ISSUED
from tests.chart.handshake import shake_hands
from tests.chart.rendering import ROOT, HelmError, Rendered, flags, render

pytestmark = pytest.mark.cluster

ALONE = {"scheduler.enabled": False}


def caller(rendered: Rendered) -> dict[str, object]:
    """What the configuration for kube-scheduler says of the extender."""
    (extender,) = rendered.scheduler_configuration()["extenders"]
    return dict(extender)


def test_the_extender_is_the_only_container_and_serves_tls_to_the_pods_network(helm: Path) -> None:
    rendered = render(helm, ALONE)
    pod, extender = rendered.pod(), rendered.extender()
    assert "initContainers" not in pod
    assert [container["name"] for container in pod["containers"]] == ["extender"]
    assert "restartPolicy" not in extender
    given = flags(extender)
    assert given["--host"] == "::"
    assert given["--tls-certificate"].endswith("tls.crt")
    assert given["--tls-key"].endswith("tls.key")
    assert {extender[probe]["httpGet"]["scheme"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {
        "HTTPS"
    }
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "tls"]
    assert {item["key"] for item in volume["secret"]["items"]} == {"tls.crt", "tls.key"}


def test_the_service_leads_to_it(helm: Path) -> None:
    rendered = render(helm, ALONE | {"service.clusterIP": "10.96.7.7"})
    service = rendered.one("Service")["spec"]
    assert service["selector"].items() <= rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    assert service["ports"][0]["targetPort"] in [port["name"] for port in rendered.extender()["ports"]]
    assert caller(rendered)["urlPrefix"] == "https://10.96.7.7:8888"
    for values in ({}, {"service.clusterIP": "None"}):
        assert caller(render(helm, ALONE | values))["urlPrefix"] == "https://stowage.scheduling.svc:8888"


def test_kube_scheduler_is_told_what_the_manifest_says_but_for_the_way_to_the_extender(helm: Path) -> None:
    committed = yaml.safe_load((ROOT / "manifests" / "kube-scheduler" / "configuration.yaml").read_text())
    rendered = render(helm, ALONE)
    configuration, extender = rendered.scheduler_configuration(), caller(rendered)
    (expected,) = committed["extenders"]
    assert {key: extender[key] for key in expected if key != "urlPrefix"} == {
        key: value for key, value in expected.items() if key != "urlPrefix"
    }
    assert "leaderElection" not in configuration
    assert configuration["clientConnection"] == {"kubeconfig": "/etc/kubernetes/scheduler.conf"}
    (profile,) = configuration["profiles"]
    assert profile["schedulerName"] == flags(rendered.extender())["--scheduler-name"] == "default-scheduler"
    assert profile["plugins"] == committed["profiles"][0]["plugins"]


def test_it_may_only_read_nodes_and_pods(helm: Path) -> None:
    rendered = render(helm, ALONE)
    committed = [
        document
        for document in yaml.safe_load_all((ROOT / "manifests" / "extender" / "rbac.yaml").read_text())
        if document["kind"] == "ClusterRole"
    ]
    assert rendered.one("ClusterRole")["rules"] == committed[0]["rules"]
    assert committed[0]["rules"] == [{"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list", "watch"]}]
    assert rendered.all("Lease") == []
    told = render(helm, ALONE | {"extender.reservations.events": True}).one("ClusterRole")["rules"]
    assert {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]} in told


def test_its_own_certificate_is_for_the_name_that_kube_scheduler_asks_for(helm: Path, tmp_path: Path) -> None:
    rendered = render(helm, ALONE)
    secrets = {secret["metadata"]["name"]: secret["data"] for secret in rendered.all("Secret")}
    tls = caller(rendered)["tlsConfig"]
    assert isinstance(tls, dict)
    assert tls["caData"] == secrets["stowage-tls"]["ca.crt"] == secrets["stowage-ca"]["tls.crt"]
    assert "tls.key" in secrets["stowage-ca"]

    files = {name: tmp_path / name for name in ("tls.crt", "tls.key")}
    for name, file in files.items():
        file.write_bytes(base64.b64decode(secrets["stowage-tls"][name]))
    authority = base64.b64decode(tls["caData"]).decode()
    assert shake_hands(authority, files, tls["serverName"]) == "stowage.scheduling.svc"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(authority, files, "another.scheduling.svc")


def test_only_its_own_certificate_is_renewed_and_by_rights_for_that_alone(helm: Path) -> None:
    rendered = render(helm, ALONE)
    job = rendered.one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    (rule,) = rendered.one("Role")["rules"]
    given = flags(job["spec"]["containers"][0])
    assert rule == {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["stowage-tls"],
        "verbs": ["get", "patch"],
    }
    assert (given["--secret"], given["--days"]) == ("stowage-tls", "365")
    assert rendered.one("RoleBinding")["subjects"][0]["name"] == job["spec"]["serviceAccountName"]
    # Its pods are none of the deployment's, nor of what selects these.
    selector = rendered.one("Service")["spec"]["selector"]
    assert not selector.items() <= job["metadata"]["labels"].items()
    for values in ({"scheduler.enabled": True}, {"tls": {"source": "secret", "secretName": "mine"}}):
        assert render(helm, ALONE | values).all("CronJob") == []
    assert render(helm, ALONE | {"tls.selfSigned.renewal.enabled": False}).all("CronJob") == []


def test_the_certificates_secret_says_for_how_many_days_it_was_made(helm: Path) -> None:
    rendered = render(helm, ALONE | {"tls.selfSigned.days": 30})
    (secret,) = [secret for secret in rendered.all("Secret") if secret["metadata"]["name"] == "stowage-tls"]
    assert secret["metadata"]["annotations"][DAYS] == "30"
    assert abs(time.time() - int(secret["metadata"]["annotations"][ISSUED])) < 600


def test_a_secret_or_cert_manager_brings_the_certificate(helm: Path) -> None:
    given = render(helm, ALONE | {"tls": {"source": "secret", "secretName": "mine"}})
    assert given.all("Secret") == []
    assert {"name": "tls", "secret": {"secretName": "mine"}}.items() <= {
        **given.pod()["volumes"][0],
        "secret": {"secretName": given.pod()["volumes"][0]["secret"]["secretName"]},
    }.items()
    assert caller(given)["tlsConfig"] == {
        "serverName": "stowage.scheduling.svc",
        "caFile": "/etc/kubernetes/stowage-ca.crt",
    }
    issued = render(helm, ALONE | {"tls": {"source": "certManager", "certManager": {"issuerRef": {"name": "ca"}}}})
    certificate = issued.one("Certificate")["spec"]
    own = {secret["metadata"]["name"] for secret in render(helm, ALONE).all("Secret")}
    # cert-manager leaves it there, where helm would not take it over.
    assert certificate["secretName"] not in own
    assert certificate["issuerRef"] == {"name": "ca", "kind": "Issuer", "group": "cert-manager.io"}
    assert certificate["dnsNames"] == ["stowage.scheduling.svc"]
    assert issued.pod()["volumes"][0]["secret"]["secretName"] == certificate["secretName"]


@pytest.mark.parametrize(
    ("source", "missing"), [("secret", r"tls\.secretName"), ("certManager", r"tls\.certManager\.issuerRef\.name")]
)
def test_what_a_certificate_needs_has_to_be_named(helm: Path, source: str, missing: str) -> None:
    with pytest.raises(HelmError, match=missing):
        render(helm, ALONE | {"tls.source": source})


def test_a_network_policy_lets_in_whoever_may_ask(helm: Path) -> None:
    peer = {"ipBlock": {"cidr": "10.0.0.0/24"}}
    values = {"networkPolicy": {"enabled": True, "extenderFrom": [peer]}}
    rendered = render(helm, ALONE | values)
    (rule,) = rendered.one("NetworkPolicy")["spec"]["ingress"]
    named, test = rule["from"]
    assert (rule["ports"], named) == ([{"port": "extender"}], peer)
    (pod,) = rendered.all("Pod")
    assert test["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_a_network_policy_opens_no_port_that_nobody_serves(helm: Path) -> None:
    policy = {"enabled": True, "extenderFrom": [{"podSelector": {}}], "metricsFrom": [{"namespaceSelector": {}}]}
    for metrics, rules in ((False, 1), (True, 2)):
        rendered = render(helm, ALONE | {"networkPolicy": policy, "metrics.enabled": metrics})
        ingress = rendered.one("NetworkPolicy")["spec"]["ingress"]
        assert [rule["ports"] for rule in ingress] == [[{"port": "extender"}]] * rules
