import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_generated_code_is_that_of_the_proto_file(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "proto" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)

    generator.generate(tmp_path)

    for name in generator.GENERATED:
        committed = generator.TARGET / name
        assert (tmp_path / name).read_text() == committed.read_text(), "run `python proto/generate.py`"
