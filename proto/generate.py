"""Generates extender/server/scoring_pb2.py and .pyi from the .proto; `python proto/generate.py` after a change.

Only messages and descriptors are generated: `extender.server.rpc` registers its methods by name.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from grpc_tools import protoc

PROTO_ROOT = Path(__file__).resolve().parent
SOURCE = "stowage/v1/scoring.proto"
TARGET = PROTO_ROOT.parent / "extender" / "server"
GENERATED = ("scoring_pb2.py", "scoring_pb2.pyi")
MYPY_COMMENT = "# mypy: disable-error-code=type-arg\n"  # protoc writes Mapping without its parameters


def generate(target: Path) -> None:
    """Write the generated files into the folder.

    Raises:
        RuntimeError: protoc refused the .proto; it has printed why.
    """
    with TemporaryDirectory() as folder:
        arguments = ["protoc", f"-I{PROTO_ROOT}", f"--python_out={folder}", f"--pyi_out={folder}", SOURCE]
        if protoc.main(arguments) != 0:
            raise RuntimeError(f"protoc failed: {' '.join(arguments)}")
        for name in GENERATED:
            text = (Path(folder) / Path(SOURCE).parent / name).read_text()
            (target / name).write_text(MYPY_COMMENT + text if name.endswith(".pyi") else text)


if __name__ == "__main__":
    generate(TARGET)
    sys.stdout.write(f"wrote {', '.join(str(TARGET / name) for name in GENERATED)}\n")
