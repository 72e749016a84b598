"""The cycle of production from its beginning to its end, on a cluster that is made for it: `make cycle`.

    python -m tests.cluster.cycle_cluster
    python -m tests.cluster.cycle_cluster --incumbent bundled:latency train.training.total_timesteps=2000000

starts a control plane on loopback with KWOK, kube-scheduler and the extender, which serves the incumbent, and runs
`training.cycle run` there with small settings; KEY=VALUE changes them. The cluster is gone afterwards, the cycle's
folder stays. Its exit code is the cycle's.

Interrupted, the same command goes on with the cycle that it was in, on another such cluster: what has ended stays, and
so does a training, but what was begun with pods of the cluster that is gone is begun anew. Once a cycle has ended, by
its candidate in service, refused or taken back, the next command begins another.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from extender.policies.bundled import policy_path
from extender.whole_file import put_whole
from tests.cluster.processes import die_with_parent
from tests.cluster.replay_cluster import ReplayCluster, run_replay_cluster
from tests.cluster.tools.build import DEFAULT_KUBERNETES, tools_directory
from training.cycle import steps
from training.cycle.contents import CANARY, RECORD, SHADOW
from training.cycle.records import Book, GivenError, Verdict, read_json, write_json
from training.cycle.serving import NOTE as CANDIDATE

INCUMBENT = "bundled:latency"
POLL = ("--policy-poll", "0.5")
SMALL = (
    *("record.periods=9", "gate.seeds=40", "gate.pods=1000", "gate.margin=0.25"),
    *("train.evaluation.pods=1000", "train.evaluation.seeds=2"),
    *("shadow.pods=60", "shadow.limit_seconds=600"),
    *("canary.pods=40", "canary.percent=50", "canary.limit_seconds=600"),
)  # fmt: skip
WITH_THE_CLUSTER = RECORD, SHADOW, CANARY, CANDIDATE
"""What has to do with pods, or files, of one cluster while it is at work."""

FOLDER = Path("runs/cycle")
PREFIX, COMMAND = "local-", "command.json"  # of the names of such cycles; what each was begun by
CLUSTER, CLUSTER_LOCK = "cluster-", "cluster.lock"  # of the folder of its cluster's files; who has one
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


def begun_by(folder: Path, command: dict[str, Any]) -> str | None:
    """The cycle to go on with: the last that was begun by the same command, where it has not ended and nobody works.

    Args:
        folder: of all cycles.
        command: incumbent and settings.

    Raises:
        GivenError: it is not told what one of them was begun by, or how it stands with it.
    """
    for each in sorted(folder.glob(f"{PREFIX}*/{COMMAND}"), reverse=True):
        if read_json(each, f"remove {each.parent}") == command:
            book = Book(each.parent)
            return None if has_ended(book) or book.busy() else book.folder.name
    return None


def has_ended(book: Book) -> bool:
    """Whether there is nothing more to do in a cycle."""
    records = [book.read(name) for name in steps.NAMES]
    refused = any(record is not None and record.verdict is Verdict.REFUSED for record in records)
    return refused or book.taken_back() or (records[-1] is not None and records[-1].verdict is Verdict.DONE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a cycle in such a cluster; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster.cycle_cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--incumbent", default=INCUMBENT, help="a policy file or bundled:NAME (default: %(default)s)")
    parser.add_argument("--kubernetes", default=DEFAULT_KUBERNETES, help="version (default: %(default)s)")
    parser.add_argument("--name", help="of the cycle (default: the one that was interrupted, else the time)")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, metavar="DIR", help="where cycles are kept (default: %(default)s)"
    )
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the cycle, for the small ones")
    options = parser.parse_intermixed_args(arguments)
    try:
        return begin(options)
    except GivenError as error:
        sys.stderr.write(f"cycle_cluster: {error}\n")
        return 2


def begin(options: argparse.Namespace) -> int:
    """Begin a cycle, or go on with one; returns its exit code.

    Raises:
        GivenError: another command is at work on it, or one of its files is not readable.
    """
    asked = {"incumbent": options.incumbent, "settings": options.settings}
    interrupted = None if options.name else begun_by(options.folder, asked)
    name = options.name or interrupted or time.strftime(f"{PREFIX}%Y%m%d-%H%M%S")
    if interrupted:
        print(f"going on with the cycle {name}, which was interrupted; --name begins another", flush=True)
    else:
        print(f"beginning the cycle {name}", flush=True)
    book = Book(options.folder / name)
    with book.alone(CLUSTER_LOCK):
        write_json(book.folder / COMMAND, asked)
        for step in WITH_THE_CLUSTER:
            book.forget(step)
        for left in book.folder.glob(f"{CLUSTER}*/"):  # by one that was killed
            shutil.rmtree(left, ignore_errors=True)
        try:
            return carry_out(options, name)
        except KeyboardInterrupt:
            print(f"\ninterrupted; the same command goes on with the cycle {name}")
            return 130


def carry_out(options: argparse.Namespace, name: str) -> int:
    """Make the cluster, and run the cycle there; returns its exit code."""
    command = [sys.executable, "-m", "training.cycle"]
    which = ["--folder", str(options.folder), "--name", name]
    # Of a command that is killed it stays, in the cycle's folder, where the next one removes it.
    with tempfile.TemporaryDirectory(prefix=CLUSTER, dir=(options.folder / name).resolve()) as folder:
        print("starting a control plane, KWOK, kube-scheduler and the extender on loopback", flush=True)
        with run_cycle_cluster(tools_directory(options.kubernetes), Path(folder), options.incumbent) as steered:
            settings = [*steered.settings, f"replay={REPLAY}", *SMALL, *options.settings]
            words = [*command, "run", *which, *settings]
            ending = die_with_parent if sys.platform == "linux" else None  # else it would go on without its cluster
            status = subprocess.run(words, env=steered.environment, check=False, preexec_fn=ending).returncode
        subprocess.run([*command, "status", *which], check=False)
        print(f"everything of it is in {options.folder / name}")
    return status


if __name__ == "__main__":
    sys.exit(main())
