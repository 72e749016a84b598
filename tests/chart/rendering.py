"""The chart at the repository's root, rendered by the real helm."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
Document = dict[str, Any]


class HelmError(Exception):
    """helm ended with an error; the message is what it said."""


class Rendered:
    """The objects of a release.

    Attributes:
        documents: all of them, in helm's order.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = list(documents)

    def all(self, kind: str) -> list[Document]:
        """The objects of a kind, those of tests included."""
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind: str) -> Document:
        """The only object of its kind, apart from those that `helm test` makes."""
        (document,) = [document for document in self.all(kind) if not is_hook(document)]
        return document

    def pod(self) -> Document:
        """The specification of the deployment's pods."""
        spec: Document = self.one("Deployment")["spec"]["template"]["spec"]
        return spec

    def extender(self) -> Document:
        """The extender's container, wherever it stands."""
        pod = self.pod()
        (container,) = [
            each for each in [*pod.get("initContainers", []), *pod["containers"]] if each["name"] == "extender"
        ]
        return container

    def scheduler(self) -> Document:
        """kube-scheduler's container."""
        (container,) = [each for each in self.pod()["containers"] if each["name"] == "kube-scheduler"]
        return container

    def scheduler_configuration(self) -> Document:
        """The KubeSchedulerConfiguration."""
        document: Document = yaml.safe_load(self.one("ConfigMap")["data"]["configuration.yaml"])
        return document


def is_hook(document: Document) -> bool:
    """Whether the object is there for `helm test` only."""
    return "helm.sh/hook" in document["metadata"].get("annotations", {})


def run_helm(helm: Path, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Run helm; returns its standard output.

    Raises:
        HelmError: it failed.
    """
    answer = subprocess.run(
        [str(helm), *map(str, arguments)], capture_output=True, text=True, timeout=300, env=environment, cwd=ROOT
    )
    if answer.returncode != 0:
        raise HelmError(answer.stderr.strip() + answer.stdout.strip())
    return answer.stdout


def render(helm: Path, values: Document | None = None, *arguments: str, release: str = "stowage") -> Rendered:
    """What a release in the namespace `scheduling` consists of.

    Args:
        helm: the program.
        values: over those of the chart.
        arguments: further ones of `helm template`.
        release: its name.
    """
    given = set_values(values or {})
    text = run_helm(helm, "template", release, ROOT, "--namespace=scheduling", *given, *arguments)
    return Rendered([document for document in yaml.safe_load_all(text) if document])


def notes(helm: Path, values: Document | None = None) -> str:
    """What helm says after the installation of a release."""
    given = set_values(values or {})
    text = run_helm(helm, "install", "stowage", ROOT, "--namespace=scheduling", "--dry-run=client", *given)
    return text.partition("\nNOTES:\n")[2]


def set_values(values: Document) -> list[str]:
    """Arguments of helm that set values, by their paths."""
    return [f"--set-json={path}={json.dumps(value)}" for path, value in values.items()]


def flags(container: Document) -> dict[str, str]:
    """A container's arguments by flag."""
    pairs = [argument.partition("=") for argument in container["args"] if argument.startswith("--")]
    return {flag: value for flag, _, value in pairs}
