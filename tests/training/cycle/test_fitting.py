from pathlib import Path

import pytest

from training.cycle.fitting import fitted_workload
from training.cycle.records import GivenError


@pytest.mark.parametrize("content", ['{"source": "gen', "[]", '{"source": "elsewhere"}', '{"no_such_key": 1}'])
def test_a_file_that_is_no_workload_is_named_with_what_helps(content: str, tmp_path: Path) -> None:
    (tmp_path / "workload.json").write_text(content)
    with pytest.raises(GivenError, match=r"workload\.json (.|\n)*do the step fit again"):
        fitted_workload(tmp_path)
