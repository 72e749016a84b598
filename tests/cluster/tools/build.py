"""Build the programs of a control plane from Go modules, where no container image can be had.

    python tests/cluster/tools/build.py                    build what is missing, print the folder
    python tests/cluster/tools/build.py --kind             the same for the programs that only a kind cluster needs
    python tests/cluster/tools/build.py --print-directory  print the folder only

Each program has a folder here with a go.mod that names it as a `tool` and a go.sum that pins what it is made of;
Kubernetes has one for each version. The binaries lie in a cache outside the tree, in a folder named by the digest of
everything that they are built from, so another checkout finds them too, and a changed recipe never finds old ones.
Only the standard library is used: this runs before anything is installed.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

RECIPES = Path(__file__).resolve().parent
DEFAULT_KUBERNETES = "1.36"


class Tool(NamedTuple):
    """A program and where it comes from.

    Attributes:
        name: of the binary.
        recipe: the folder with its go.mod, relative to this one.
        package: its main package.
    """

    name: str
    recipe: str
    package: str


class ToolchainError(Exception):
    """Go cannot be used; the message is one line that says why and what to do."""


class BuildError(Exception):
    """A program could not be built; the message ends with what Go printed."""


def tools(kubernetes: str) -> list[Tool]:
    """The programs, the longest build first.

    Args:
        kubernetes: minor version, such as "1.36"; there has to be a recipe for it.
    """
    recipe = f"kubernetes/{kubernetes}"
    return [
        Tool("kube-apiserver", recipe, "k8s.io/kubernetes/cmd/kube-apiserver"),
        Tool("kube-scheduler", recipe, "k8s.io/kubernetes/cmd/kube-scheduler"),
        Tool("helm", "helm", "helm.sh/helm/v4/cmd/helm"),
        Tool("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok"),
        Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    ]


def kind_tools(kubernetes: str) -> list[Tool]:
    """The further programs of a kind cluster: those of its nodes, and the ones that make and drive it.

    Args:
        kubernetes: minor version; its recipe has to name the programs of a node as well.
    """
    recipe = f"kubernetes/{kubernetes}"
    of_nodes = ("kubelet", "kube-controller-manager", "kube-proxy", "kubeadm", "kubectl")
    return [
        *(Tool(name, recipe, f"k8s.io/kubernetes/cmd/{name}") for name in of_nodes),
        Tool("coredns", "coredns", "github.com/coredns/coredns"),
        Tool("kind", "kind", "sigs.k8s.io/kind"),
    ]


def tools_directory(kubernetes: str = DEFAULT_KUBERNETES, kind: bool = False) -> Path:
    """The folder where the binaries are, or will be once they are built.

    Args:
        kubernetes: minor version.
        kind: whether the programs are meant that only a kind cluster needs.

    Raises:
        ToolchainError: there is no Go, or none that the recipes can be built with.
    """
    chosen = kind_tools(kubernetes) if kind else tools(kubernetes)
    digest = hashlib.sha256(go_version(kubernetes).encode())
    for recipe in sorted({tool.recipe for tool in chosen}):
        for name in ("go.mod", "go.sum"):
            digest.update((RECIPES / recipe / name).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return cache_directory() / ("kind-tools" if kind else "cluster-tools") / digest.hexdigest()[:16] / "bin"


def cache_directory() -> Path:
    """Where this project keeps what is costly to make again."""
    if "STOWAGE_CACHE" in os.environ:
        return Path(os.environ["STOWAGE_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stowage"


def go_version(kubernetes: str) -> str:
    """The version of Go that Kubernetes' recipe is built with; its go.mod may ask for a newer toolchain."""
    if shutil.which("go") is None:
        raise ToolchainError("no Go toolchain: `go` is not on the PATH; install Go 1.26 or newer (https://go.dev/dl)")
    answer = go(RECIPES / "kubernetes" / kubernetes, "env", "GOVERSION")
    if answer.returncode != 0:
        raise ToolchainError(f"the Go toolchain is of no use here: {answer.stderr.strip()}; install Go 1.26 or newer")
    return answer.stdout.strip()


def go(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `go` in a recipe's folder, with nothing of the caller's own Go settings in the way."""
    environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}
    return subprocess.run(["go", *arguments], cwd=directory, env=environment, capture_output=True, text=True)


def build(tool: Tool, directory: Path) -> None:
    """Build one program into a folder.

    Raises:
        BuildError: Go could not; its last lines are in the message.
    """
    recipe = RECIPES / tool.recipe
    flags = ["-s", "-w", *version_flags(recipe)] if tool.recipe.startswith("kubernetes/") else ["-s", "-w"]
    target = directory / tool.name
    answer = go(recipe, "build", "-trimpath", "-ldflags", " ".join(flags), "-o", str(target), tool.package)
    if answer.returncode != 0:
        tail = "\n".join(answer.stderr.strip().splitlines()[-15:])
        raise BuildError(f"{tool.name} could not be built in {recipe}:\n{tail}")


def version_flags(recipe: Path) -> list[str]:
    """Linker flags that tell a Kubernetes program its own version; without them it takes itself for v0.0.0."""
    answer = go(recipe, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
    if answer.returncode != 0:
        raise BuildError(f"the version of Kubernetes in {recipe} cannot be read:\n{answer.stderr.strip()}")
    version = answer.stdout.strip()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return [f"-X k8s.io/component-base/version.{name}={value}" for name, value in values.items()]


def build_all(kubernetes: str, kind: bool = False) -> Path:
    """Build what is missing; whoever finds the folder finds all of it, for it appears under its name once complete.

    Args:
        kubernetes: minor version.
        kind: whether to build the programs that only a kind cluster needs.

    Returns:
        The folder with the binaries.
    """
    directory = tools_directory(kubernetes, kind)
    if directory.is_dir():
        return directory
    chosen = kind_tools(kubernetes) if kind else tools(kubernetes)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bin-unfinished-", dir=directory.parent) as unfinished:
        for tool in chosen:
            print(f"{tool.name:24}", end="", flush=True)
            started = time.monotonic()
            build(tool, Path(unfinished))
            print(f"built in {time.monotonic() - started:.0f} s", flush=True)
        finished = Path(unfinished) / "finished"
        finished.mkdir(mode=0o755)
        for tool in chosen:
            (Path(unfinished) / tool.name).rename(finished / tool.name)
        try:
            finished.rename(directory)
        except OSError:
            # Someone else built the same at the same time and was first; theirs is as good.
            if not directory.is_dir():
                raise
    return directory


def main() -> int:
    """Command line; exit code 1 where a build fails, 2 where Go or the recipe is missing."""
    parser = argparse.ArgumentParser(description="Build the programs of a control plane from Go modules.")
    versions = sorted(path.name for path in (RECIPES / "kubernetes").iterdir())
    parser.add_argument("--kubernetes", choices=versions, default=DEFAULT_KUBERNETES, help="minor version")
    parser.add_argument("--kind", action="store_true", help="the programs that only a kind cluster needs")
    parser.add_argument("--print-directory", action="store_true", help="print where the binaries are; build nothing")
    arguments = parser.parse_args()
    try:
        directory = tools_directory if arguments.print_directory else build_all
        print(directory(arguments.kubernetes, arguments.kind))
    except ToolchainError as error:
        print(f"cluster-tools: {error}", file=sys.stderr)
        return 2
    except BuildError as error:
        print(f"\ncluster-tools: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
