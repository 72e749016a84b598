"""The two ways of using Stowage: a second kube-scheduler, or the cluster's own that asks the extender."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from training.kind.cluster import Cluster
from training.kind.commands import ROOT, step
from training.kind.static_scheduler import ask_extender, run_scheduler

RELEASE = NAMESPACE = "stowage"
WAIT = ("--wait", "--timeout=300s")
# kubeadm gives Services addresses of 10.96.0.0/16; a static pod knows them by address only.
ADDRESS = "10.96.200.200"
NODES, SPEED, SEEDS = 12, 200, 1

Way = Callable[[Cluster, str, int, Path, bool], None]


def second_scheduler(cluster: Cluster, image: str, pods: int, results: Path, remove: bool) -> None:
    """The chart as it is: pods that ask for `stowage` beside pods that ask for nothing.

    Args:
        cluster: with the image on its node, and KWOK.
        image: its name.
        pods: of the replay.
        results: folder for the replay's report.
        remove: whether the release is removed at the end.
    """
    with step("a second kube-scheduler: installing the chart"):
        helm(cluster, "install", RELEASE, ROOT, *image_values(image), "--create-namespace", *WAIT)
    with step("helm test"):
        helm(cluster, "test", RELEASE, "--timeout=300s")
    replay(cluster, "default-scheduler,stowage", pods, results)
    if remove:
        with step("uninstalling"):
            helm(cluster, "uninstall", RELEASE, *WAIT)


def own_scheduler(cluster: Cluster, image: str, pods: int, results: Path, remove: bool) -> None:
    """The extender alone, asked over TLS by the cluster's kube-scheduler: pods that ask for nothing.

    Args:
        cluster: with the image on its node, and KWOK.
        image: its name.
        pods: of the replay.
        results: folder for the replay's report.
        remove: whether the release is removed at the end.
    """
    values = ("--set=scheduler.enabled=false", f"--set=service.clusterIP={ADDRESS}")
    with step("the extender alone: installing the chart"):
        helm(cluster, "install", RELEASE, ROOT, *image_values(image), *values, "--create-namespace", *WAIT)
    with step("helm test"):
        helm(cluster, "test", RELEASE, "--timeout=300s")
    with step("having the cluster's kube-scheduler ask it"):
        before = ask_extender(cluster, NAMESPACE, f"{RELEASE}-scheduler")
    replay(cluster, "default-scheduler", pods, results)
    if remove:
        with step("putting the cluster's kube-scheduler back and uninstalling"):
            run_scheduler(cluster, before)
            helm(cluster, "uninstall", RELEASE, *WAIT)


WAYS: Mapping[str, Way] = {"second-scheduler": second_scheduler, "own-scheduler": own_scheduler}


def image_values(image: str) -> tuple[str, ...]:
    """Arguments of helm for an image that is on the node and in no registry."""
    repository, _, tag = image.rpartition(":")
    return f"--set=image.repository={repository}", f"--set-string=image.tag={tag}", "--set=image.pullPolicy=Never"


def helm(cluster: Cluster, *arguments: str | Path) -> None:
    """Run helm in the release's namespace."""
    cluster.commands.run("helm", *arguments, f"--namespace={NAMESPACE}")


def replay(cluster: Cluster, schedulers: str, pods: int, results: Path) -> None:
    """Let pods of a generated workload come and go on simulated nodes, and write a report."""
    print(f"replaying {pods} pods on {NODES} simulated nodes: {schedulers}", flush=True)
    cluster.commands.show(
        *(sys.executable, "-m", "training.replay", f"--kubeconfig={cluster.kubeconfig}", f"--schedulers={schedulers}"),
        *("--workload=synthetic", f"--nodes={NODES}", f"--pods={pods}", f"--seeds={SEEDS}", f"--speed={SPEED}"),
        f"--out={results}",
    )
