"""The sidecar's image has no training stack: the extender must not even try to load it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = ("training", "torch", "gymnasium", "numba", "hydra", "stable_baselines3", "omegaconf", "scipy", "onnx")

BARE = f"""
import importlib.abc, pkgutil, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {FORBIDDEN!r}:
            raise ModuleNotFoundError(f"{{name}} is not in the sidecar's image", name=name)

sys.meta_path.insert(0, Absent())
import extender
loaded = [module.name for module in pkgutil.walk_packages(extender.__path__, "extender.")]
for name in loaded:
    __import__(name)
print(len(loaded))
print(*[name for name in {FORBIDDEN!r} if name in sys.modules])
"""


def run(code: str) -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_every_module_loads_where_training_is_not_installed() -> None:
    count, loaded = run(BARE)

    assert int(count) > 20
    assert loaded == ""


def test_the_command_loads_none_of_it_where_it_is_installed() -> None:
    code = f"import extender.__main__, sys; print(*[name for name in {FORBIDDEN!r} if name in sys.modules])"

    assert run(code) == [""]


def test_a_run_from_a_file_does_not_load_the_kubernetes_package() -> None:
    assert run("import extender.__main__, sys; print('kubernetes' in sys.modules)") == ["False"]


def test_onnx_runtime_reports_to_nobody() -> None:
    # Where it may not keep an identifier it warns, so its silence there shows that it wants none.
    program = "import extender.policies.onnx; print('loaded')"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"HOME": "/proc/nobody"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.stdout == "loaded\n"
    assert "telemetry" not in answer.stderr
