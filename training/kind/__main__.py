"""Stowage tried on a kind cluster that is made for it: `make kind`.

    python -m training.kind
    python -m training.kind --way second-scheduler --keep

Makes a cluster from manifests/kind.yaml, builds the image and loads it, runs KWOK for simulated nodes, installs the
chart, runs `helm test` and a short replay, and deletes the cluster. First with a kube-scheduler of Stowage's own beside
the cluster's (the chart's default), then with the extender alone and the cluster's own kube-scheduler asking it.

Exit codes: 0 done; 1 a step failed, and the cluster is deleted all the same; 2 the machine lacks something, or there is
such a cluster already, and nothing was made; 130 interrupted.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from extender.closed_pipe import quiet_on_closed_pipe
from training.arguments import parse_count
from training.kind.cluster import Cluster, ClusterExistsError, build_image
from training.kind.commands import ROOT, CommandError, complain, step
from training.kind.engines import ENGINES, CannotRunError, find_engine, find_programs
from training.kind.static_scheduler import SchedulerNotReadyError
from training.kind.ways import WAYS

IMAGE = "localhost/stowage:trial"


def argument_parser() -> argparse.ArgumentParser:
    """What reads the command line; what can be set in the environment as well is said so."""
    parser = argparse.ArgumentParser(
        prog="python -m training.kind",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--way", choices=[*WAYS, "both"], default="both", help="of using Stowage (default: both)")
    parser.add_argument("--name", default="stowage", help="of the cluster (default: %(default)s)")
    parser.add_argument("--engine", choices=ENGINES, help="default: Docker if it answers, else podman")
    parser.add_argument(
        "--node-image",
        default=os.environ.get("STOWAGE_KIND_NODE_IMAGE"),
        help="of the cluster's node ($STOWAGE_KIND_NODE_IMAGE; default: kind's own)",
    )
    parser.add_argument(
        "--base-image",
        default=os.environ.get("STOWAGE_BASE_IMAGE"),
        help="that Stowage's image is built on ($STOWAGE_BASE_IMAGE; default: the Dockerfile's)",
    )
    parser.add_argument("--image", help="Stowage's image, which the engine has already; none is built then")
    parser.add_argument("--kwok-image", help="default: the one in manifests/kind-kwok.yaml")
    parser.add_argument(
        "--load",
        type=Path,
        action="append",
        default=[],
        metavar="ARCHIVE",
        help="image archive to put onto the node, for what it cannot pull; may be repeated",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=ROOT / "manifests" / "kind.yaml",
        help="kind's configuration of the cluster (default: manifests/kind.yaml)",
    )
    parser.add_argument("--pods", type=parse_count, default=120, help="of a replay (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster, and the last release in it")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "kind", metavar="DIR", help="for results (default: runs/kind)"
    )
    return parser


def try_out(options: argparse.Namespace, engine: str) -> None:
    """All steps; the cluster is deleted whatever happens, unless it is to be kept.

    Raises:
        ClusterExistsError: there is such a cluster.
        CommandError: a step failed.
        SchedulerNotReadyError: the cluster's kube-scheduler did not come back.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(engine, options.name, options.out)
    image = options.image or IMAGE
    with step(f"creating the kind cluster {options.name} by {engine}"):
        cluster.create(options.config, options.node_image)
    try:
        if options.image is None:
            with step("building the image"):
                build_image(cluster.commands, engine, image, options.base_image, ())
        with step("loading the image"):
            cluster.load(image, options.out)
            for archive in options.load:
                cluster.load_archive(archive)
        with step("installing KWOK"):
            cluster.install_kwok(options.kwok_image)
        for name in WAYS if options.way == "both" else (options.way,):
            WAYS[name](cluster, image, options.pods, options.out / name, not options.keep)
    finally:
        if options.keep:
            print(f"the cluster is kept: KUBECONFIG={cluster.kubeconfig}, kind delete cluster --name {options.name}")
        else:
            with step("deleting the cluster"):
                cluster.delete()


@quiet_on_closed_pipe
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns its exit code."""
    options = argument_parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        engine = find_engine(options.engine)
        find_programs()
        try_out(options, engine)
    except (CannotRunError, ClusterExistsError) as error:
        complain(str(error))
        return 2
    except (CommandError, SchedulerNotReadyError) as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
