"""The chart without a scheduler: the cluster's own kube-scheduler, a static pod, asks the extender over TLS."""

from collections.abc import Iterator

import pytest

from tests.cluster.api import Api
from tests.cluster.kind.arriving import arriving
from tests.cluster.kind.ranked import assert_pods_go_where_ranked_first
from tests.cluster.kind.release import NAMESPACE, Release, everything
from tests.cluster.processes import wait_for
from training.kind.static_scheduler import ask_extender, run_scheduler

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]

ADDRESS = "10.96.200.200"


@pytest.fixture(scope="module")
def alone(release: Release) -> Iterator[Release]:
    before = everything(release.cluster)
    release.install({"scheduler.enabled": False, "service.clusterIP": ADDRESS, "replicas": 1})
    yield release
    release.uninstall()
    release.cluster.kubectl("delete", "namespace", NAMESPACE)
    wait_for(lambda: everything(release.cluster) <= before, 180.0, "everything of the release to be gone", 1.0)


@pytest.fixture(scope="module")
def asked(alone: Release) -> Iterator[Release]:
    """The release, and the static kube-scheduler told to ask it, by what the chart's ConfigMap says."""
    before = ask_extender(alone.cluster, NAMESPACE, "stowage-scheduler")
    yield alone
    run_scheduler(alone.cluster, before)


def test_helm_test_gets_an_answer_that_its_ca_vouches_for(alone: Release) -> None:
    alone.helm("test", "stowage", "--timeout=240s")


def test_its_certificate_is_renewed_by_the_same_ca(alone: Release, api: Api) -> None:
    def secret() -> dict[str, str]:
        return dict(api.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/stowage-tls")["data"])

    def kubectl(*arguments: str) -> None:
        alone.cluster.kubectl(f"--namespace={NAMESPACE}", *arguments)

    before = secret()
    kubectl("annotate", "secret/stowage-tls", "stowage.dev/issued=0", "--overwrite")
    kubectl("create", "job", "renewal-now", "--from=cronjob/stowage-renewal")
    kubectl("wait", "--for=condition=Complete", "job/renewal-now", "--timeout=180s")
    kubectl("delete", "job/renewal-now")
    after = secret()
    assert after["ca.crt"] == before["ca.crt"]
    assert after["tls.crt"] != before["tls.crt"]
    assert after["tls.key"] != before["tls.key"]


def test_the_clusters_own_scheduler_follows_the_policy(asked: Release, api: Api) -> None:
    (pod,) = asked.pods()
    with asked.extender_of(pod["metadata"]["name"], "https") as extender:
        assert_pods_go_where_ranked_first(api, extender, "default-scheduler")


def test_an_upgrade_costs_no_pod(asked: Release, api: Api) -> None:
    with arriving(api, "alone", scheduler="default-scheduler"):
        asked.upgrade(
            {
                "scheduler.enabled": False,
                "service.clusterIP": ADDRESS,
                "replicas": 1,
                "policy.name": "heuristic:best-fit",
            }
        )
