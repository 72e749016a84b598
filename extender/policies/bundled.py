"""The policies that come with Stowage, each with a model card beside it (`<name>.md`)."""

from pathlib import Path

from extender.policies.base import PolicyError

PREFIX = "bundled:"
FOLDER = Path(__file__).parent


def bundled_names() -> tuple[str, ...]:
    """The names there are."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.onnx")))


def policy_path(setting: str) -> Path:
    """The file that a setting names: a path, or `bundled:NAME`.

    Raises:
        PolicyError: no policy of that name comes with Stowage.
    """
    if not setting.startswith(PREFIX):
        return Path(setting)
    name = setting.removeprefix(PREFIX)
    if name not in bundled_names():
        raise PolicyError(
            f"{setting}: no such policy; there are {', '.join(PREFIX + each for each in bundled_names())}"
        )
    return FOLDER / f"{name}.onnx"
