"""Which policies can be chosen, and whether an uploaded file is one: the extender itself says so."""

import hashlib
from pathlib import Path

from extender.policies.base import Policy, PolicyError
from extender.policies.bundled import PREFIX, bundled_names, policy_path
from extender.policies.heuristics import RULES
from extender.policies.onnx import OnnxPolicy, load_policy
from training.evaluation.runner import Contender
from training.workloads.base import BASE_RESOURCES

FIRST_RULES = ("kube-scheduler-default", "best-fit", "most-allocated", "fgd")


def choices(runs: Path) -> dict[str, str | Path]:
    """What can be chosen, by the name it is shown under: bundled policies, those of runs, then rules.

    Args:
        runs: the folder of the runs; a run's policy is called by the run.
    """
    found: dict[str, str | Path] = {PREFIX + name: policy_path(PREFIX + name) for name in bundled_names()}
    files = sorted(runs.glob("**/policy.onnx"), key=lambda file: file.stat().st_mtime, reverse=True)
    found |= {f"run {file.parent.relative_to(runs)}": file for file in files}
    rules = [*FIRST_RULES, *(name for name in RULES if name not in FIRST_RULES)]
    return found | {f"rule {name}": name for name in rules}


def receive(name: str, content: bytes, folder: Path) -> Path:
    """Keep an uploaded policy file, if the extender would serve it.

    Args:
        name: what the file was called; only shown.
        content: the file.
        folder: where to.

    Raises:
        PolicyError: the extender would refuse the file; the message says why, and not where the file was kept.
    """
    digest = hashlib.sha256(content).hexdigest()[:12]
    stem = "".join(letter for letter in Path(name).stem if letter.isalnum() or letter in "._-") or "policy"
    file = folder / digest / f"{stem}.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    try:
        load_policy(file)
    except PolicyError as error:
        file.unlink()
        raise PolicyError(str(error).removeprefix(f"{file}: ").removeprefix(f"{file.stem}: ")) from error
    except Exception:
        file.unlink()
        raise
    return file


def edition(choice: str | Path) -> tuple[int, int] | None:
    """What tells whether a file is another one by now, as a run of the same name leaves it; None for a rule.

    Raises:
        PolicyError: the file is gone.
    """
    if isinstance(choice, str):
        return None
    try:
        about = choice.stat()
    except OSError as error:
        raise PolicyError(f"{choice}: cannot be read: {error.strerror}") from error
    return about.st_mtime_ns, about.st_size


def loaded(choice: str | Path) -> str | Policy:
    """A choice as the simulator plays it.

    Raises:
        PolicyError: the file holds no policy.
    """
    return Contender(str(choice), choice).load()


def resources_of(policy: str | Policy) -> int:
    """How many resources a cluster has to have for this policy."""
    return len(policy.resources) if isinstance(policy, OnnxPolicy) else len(BASE_RESOURCES)
