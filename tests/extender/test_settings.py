from pathlib import Path

import pytest
from pydantic import ValidationError

from extender.profile import ResourceSpec, ScoringProfile
from extender.settings import Settings, SettingsFileError, load


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("policy: from-file\nhttp_port: 1\ngrpc_port: 2\nassume_ttl: 3\n")
    monkeypatch.setenv("STOWAGE_HTTP_PORT", "11")
    monkeypatch.setenv("STOWAGE_GRPC_PORT", "12")

    settings = load({"grpc_port": "22"}, path)

    assert (settings.policy, settings.assume_ttl) == ("from-file", 3.0)
    assert (settings.http_port, settings.grpc_port) == (11, 22)


def test_stepping_down_needs_verdicts() -> None:
    with pytest.raises(ValidationError, match="step_down_after needs outcome_file"):
        load({"policy": "p", "step_down_after": 60}, None)


def test_the_defaults_listen_on_loopback_only() -> None:
    assert load({"policy": "p"}, None).host == "127.0.0.1"


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_a_setting_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("policy: p\nhttp_prot: 8888\n")
    with pytest.raises(ValidationError, match="http_prot"):
        load({}, path)


@pytest.mark.parametrize("text", ["- a list", "a: b: c", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(SettingsFileError, match=r"settings\.yaml"):
        load({}, path)


def test_one_file_does_not_leak_into_the_next_load(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("policy: p\nhttp_port: 1\n")
    load({}, path)

    assert load({"policy": "p"}, None).http_port == Settings.model_fields["http_port"].default


def test_a_scoring_profile_is_json_in_a_flag_or_the_environment_and_a_mapping_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("policy: p\nscoring:\n  resources: [{name: cpu}, {name: gpu, weight: 5}]\n")
    wanted = ScoringProfile(resources=[ResourceSpec("cpu"), ResourceSpec("gpu", 5)])
    assert load({}, path).scoring == wanted
    text = '{"resources": [{"name": "cpu"}, {"name": "gpu", "weight": 5}]}'
    assert load({"policy": "p", "scoring": text}, None).scoring == wanted
    monkeypatch.setenv("STOWAGE_SCORING", text)
    assert load({"policy": "p"}, None).scoring == wanted


def test_a_scoring_profile_in_the_environment_that_is_no_json_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOWAGE_SCORING", "{")
    with pytest.raises(ValidationError, match="scoring"):
        load({"policy": "p"}, None)
