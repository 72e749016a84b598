"""The cycle of production from its beginning to its end, on a cluster that is made for it: `make cycle`.

    python -m tests.cluster.cycle_cluster
    python -m tests.cluster.cycle_cluster --incumbent bundled:latency train.training.total_timesteps=2000000

starts a control plane on loopback with KWOK, kube-scheduler and the extender, which serves the incumbent, and runs
`training.cycle run` there with small settings; KEY=VALUE changes them. The cluster is gone afterwards, the cycle's
folder stays. Its exit code is the cycle's.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from extender.policies.bundled import policy_path
from extender.whole_file import put_whole
from tests.cluster.replay_cluster import ReplayCluster, run_replay_cluster
from tests.cluster.tools.build import DEFAULT_KUBERNETES, tools_directory

INCUMBENT = "bundled:latency"
POLL = ("--policy-poll", "0.5")
SMALL = (
    *("record.periods=9", "gate.seeds=40", "gate.pods=1000", "gate.margin=0.25"),
    *("train.evaluation.pods=1000", "train.evaluation.seeds=2"),
    *("shadow.pods=60", "shadow.limit_seconds=600"),
    *("canary.pods=40", "canary.percent=50", "canary.limit_seconds=600"),
)  # fmt: skip
REPLAY = "--namespace default --workload synthetic --nodes 16 --pods 400 --load 1.3 --speed 100 --drain 60000"


class CycleCluster(NamedTuple):
    """A cluster whose extender is steered by files.

    Attributes:
        cluster: the running one.
        settings: what the cycle has to be told of it.
        policy: the file of the policy in service.
        candidate: the file of what is tried.
    """

    cluster: ReplayCluster
    settings: tuple[str, ...]
    policy: Path
    candidate: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find the cluster."""
        return dict(os.environ) | {"KUBECONFIG": str(self.cluster.kubeconfig)}


@contextmanager
def run_cycle_cluster(tools: Path, directory: Path, incumbent: str = INCUMBENT) -> Iterator[CycleCluster]:
    """Start everything, and stop it at the end.

    Args:
        tools: the folder with the control plane's binaries.
        directory: an empty folder.
        incumbent: the policy in service at the beginning.
    """
    policy, candidate = directory / "steered" / "policy.onnx", directory / "steered" / "candidate.json"
    put_whole(policy, policy_path(incumbent).read_bytes())
    with run_replay_cluster(tools, directory, str(policy), ("--candidate", str(candidate), *POLL)) as cluster:
        settings = (
            f"decision_log={cluster.extender.decision_log}",
            f"policy_file={policy}",
            f"candidate_file={candidate}",
            f"extender={cluster.extender.url}",
        )
        yield CycleCluster(cluster, settings, policy, candidate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a cycle in such a cluster; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster.cycle_cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--incumbent", default=INCUMBENT, help="a policy file or bundled:NAME (default: %(default)s)")
    parser.add_argument("--kubernetes", default=DEFAULT_KUBERNETES, help="version (default: %(default)s)")
    parser.add_argument("--name", default=time.strftime("local-%Y%m%d-%H%M%S"), help="of the cycle (default: the time)")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the cycle, for the small ones")
    options = parser.parse_intermixed_args(arguments)
    command = [sys.executable, "-m", "training.cycle"]
    with tempfile.TemporaryDirectory(prefix="cycle-") as folder:
        print("starting a control plane, KWOK, kube-scheduler and the extender on loopback", flush=True)
        with run_cycle_cluster(tools_directory(options.kubernetes), Path(folder), options.incumbent) as steered:
            settings = [*steered.settings, f"replay={REPLAY}", *SMALL, *options.settings]
            words = [*command, "run", "--name", options.name, *settings]
            status = subprocess.run(words, env=steered.environment, check=False).returncode
        subprocess.run([*command, "status", "--name", options.name], check=False)
        print(f"everything of it is in runs/cycle/{options.name}")
    return status


if __name__ == "__main__":
    sys.exit(main())
