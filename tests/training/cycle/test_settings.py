import json
from dataclasses import asdict
from pathlib import Path

import pytest

from training.arguments import ArgumentError, parse_setting
from training.cycle.settings import Settings, keep, resolve


def given(folder: Path, *texts: str) -> Settings:
    settings = resolve(folder, [parse_setting(text) for text in texts], texts)
    keep(folder, settings)
    return settings


def test_settings_are_given_once_and_changed_later(tmp_path: Path) -> None:
    given(tmp_path, "decision_log=log", "gate.seeds=5", "train.seed=1", "train.env.pods=500")
    settings = given(tmp_path, "gate.margin=0.2", "train.seed=2")
    assert (settings.decision_log, settings.gate.seeds, settings.gate.margin) == ("log", 5, 0.2)
    assert settings.train == ["seed=2", "env.pods=500"]
    assert given(tmp_path) == settings


@pytest.mark.parametrize(
    "text",
    [
        *("gate.sedes=3", "gate.seeds=none", "extender=127.0.0.1:8888", "periods=3"),
        *("gate.margin=.inf", "patience_seconds=.inf", "gate.floor_seconds=.nan"),
    ],
)
def test_what_is_not_known_or_impossible_is_refused_and_not_kept(text: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=text.partition("=")[0]):
        given(tmp_path, text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "train.training.total_timestep=800",
        "train.training.total_timesteps=many",
        "train.env.pods=-1",
        "train.workload.source=openb",
        "train.training.resume=runs/before",
    ],
)
def test_what_training_would_refuse_is_refused_at_once_and_not_kept(text: str, tmp_path: Path) -> None:
    given(tmp_path, "train.env.nodes_lowest=200", "train.env.pods=500")
    with pytest.raises(ArgumentError, match=text.partition("=")[0].removeprefix("train.")):
        given(tmp_path, text)
    assert given(tmp_path).train == ["env.nodes_lowest=200", "env.pods=500"]


def test_a_key_of_the_training_is_taken_away_again_also_one_that_locks_the_cycle(tmp_path: Path) -> None:
    locked = asdict(given(tmp_path, "train.env.pods=500")) | {"train": ["env.pods=500", "env.pod=3", "env.nodes=-1"]}
    (tmp_path / "settings.json").write_text(json.dumps(locked))
    with pytest.raises(ArgumentError, match=r"env\.pod: no such key(.|\n)*taken away by train\.KEY= without a value"):
        given(tmp_path, "train.seed=1")
    given(tmp_path, "train.env.pod=")  # one after the other
    given(tmp_path, "train.env.nodes=")
    assert given(tmp_path, "train.seed=1").train == ["env.pods=500", "seed=1"]
    assert given(tmp_path, "train.env.pods=", "train.never.given=").train == ["seed=1"]


def test_a_step_depends_on_its_own_settings_alone(tmp_path: Path) -> None:
    one = given(tmp_path, "gate.seeds=5").of("record")
    assert given(tmp_path, "gate.seeds=6").of("record") == one
