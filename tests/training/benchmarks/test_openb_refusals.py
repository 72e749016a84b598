"""What the benchmark's command line and files may say, and what is refused before anything is played."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from extender.features import feature_names
from extender.policies.base import PolicyError
from extender.policies.onnx import OnnxPolicy
from tests.policy_files import metadata_of, policy_file
from training.benchmarks import openb
from training.benchmarks.openb import (
    LOAD_STEPS,
    PUBLISHED_RULES,
    WARM_UP_ARRIVALS,
    Mix,
    Run,
    check_resources,
    parse_policies,
    parse_seeds,
    read_mix,
    read_published,
    table_of,
)
from training.workloads.openb import TraceError

PODS, NODES = 3, 2
VALID = {
    "pods_42": np.array([2, 0, 1, 0] * 4, np.uint16),
    "tiebreak_42": np.array([1, 0], np.uint16),
}
Playing = Callable[..., list[tuple[str, int]]]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A mix named own of three pods for two nodes, with the order of arrival of seed 42."""
    (tmp_path / "openb_node_list_gpu_node.csv").write_text(
        "sn,cpu_milli,memory_mib,gpu,model\n" + "n,8000,1000,2,T4\n" * NODES
    )
    rows = "".join(f"p{index},1000,100,1,500,\n" for index in range(PODS))
    (tmp_path / "openb_pod_list_own.csv").write_text("name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n" + rows)
    write_orders(tmp_path, VALID)
    return tmp_path


def write_orders(trace: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = trace / "arrivals" / "own.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **arrays)
    return path


@pytest.fixture
def play(trace: Path, monkeypatch: pytest.MonkeyPatch) -> Playing:
    """Runs the command on the trace without playing; says which policy would have met how many arrivals."""

    def command(*arguments: str) -> list[tuple[str, int]]:
        played: list[tuple[str, int]] = []

        def play_run(mix: Mix, name: str, policy: str | OnnxPolicy, seed: int) -> Run:
            label = policy if isinstance(policy, str) else policy.name
            played.append((label, len(mix.arrivals[seed])))
            return Run(name, label, seed, [0.0] * LOAD_STEPS, 0, 0.0)

        monkeypatch.setattr(openb, "play_run", play_run)
        line = ["openb", "--traces", str(trace), "--mix", "own", "--seeds", "42", *arguments]
        monkeypatch.setattr(sys, "argv", line)
        try:
            openb.main()
        except SystemExit as end:
            if played and end.code == 2:
                pytest.fail("refused after playing")
            raise
        return played

    return command


def refused(play: Playing, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        play(*arguments)
    assert end.value.code == 2
    return capsys.readouterr().err


def test_a_folder_that_is_missing_is_refused_before_playing(play, capsys, tmp_path) -> None:
    message = refused(play, capsys, "--json", str(tmp_path / "nodir" / "x.json"))
    assert f"there is no folder {tmp_path / 'nodir'}" in message


def test_a_result_that_would_replace_a_folder_is_refused_before_playing(play, capsys, tmp_path) -> None:
    assert "not a file" in refused(play, capsys, "--json", str(tmp_path / "arrivals"))


def test_a_folder_that_cannot_be_written_to_is_refused_before_playing(play, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(openb.os, "access", lambda path, mode: path != tmp_path)
    assert "cannot be written to" in refused(play, capsys, "--json", str(tmp_path / "x.json"))


def test_the_result_replaces_an_older_one(play, tmp_path) -> None:
    result = tmp_path / "x.json"
    result.write_text("old")
    play("--json", str(result))
    assert [run["policy"] for run in json.loads(result.read_text())] == ["fgd"]


def test_a_result_that_cannot_be_written_leaves_the_older_one(play, tmp_path, monkeypatch) -> None:
    result = tmp_path / "x.json"
    result.write_text("old")

    def full(path: Path, text: str, **_: object) -> int:
        with path.open("w") as file:
            file.write(text[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SystemExit) as end:
        play("--json", str(result))
    assert (end.value.code, result.read_text()) == (1, "old")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"pods_42": np.array([0, 3])}, r"pods_42: 0 to 3, expected whole numbers of 0 to 2"),
        ({"pods_42": np.array([-1, 0])}, r"pods_42: -1 to 0, expected whole numbers of 0 to 2"),
        ({"pods_42": np.array([0.0, 1.0])}, r"pods_42: float64 \(2,\), expected whole numbers"),
        ({"pods_42": np.array([[0], [1]])}, r"pods_42: int64 \(2, 1\), expected whole numbers"),
        ({"pods_42": np.array([], np.int64)}, r"pods_42: empty, expected whole numbers"),
        ({"pods_42": np.array([None])}, r"pods_42: cannot be read: .*; expected whole numbers"),
        ({"tiebreak_42": np.array([0])}, r"tiebreak_42: 1 numbers for 2 nodes, expected 2 whole numbers"),
        ({"tiebreak_42": np.array([0, 1, 2])}, r"tiebreak_42: 3 numbers for 2 nodes, expected 2 whole numbers"),
        ({"tiebreak_42": np.array([1, 1])}, r"tiebreak_42: equal or too large numbers, expected 2 whole numbers"),
        ({"tiebreak_42": np.array([0, 2**63], np.uint64)}, r"tiebreak_42: equal or too large numbers"),
        ({"pods_43": np.array([0])}, r"pods_43 is there, expected tiebreak_43"),
        ({"tiebreak_43": np.array([0, 1])}, r"tiebreak_43 is there, expected pods_43"),
        ({"pods_x": np.array([0])}, r"pods_x: expected arrays named pods_<seed>"),
    ],
)
def test_orders_that_cannot_be_used_are_refused_by_file_and_array(trace, changes, complaint) -> None:
    write_orders(trace, VALID | changes)
    with pytest.raises(TraceError, match=r"own\.npz: " + complaint):
        read_mix(trace, "own")


def test_a_file_without_orders_is_refused(trace) -> None:
    write_orders(trace, {})
    with pytest.raises(TraceError, match=r"own\.npz: no arrays, expected pods_<seed>"):
        read_mix(trace, "own")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04garbage", b"\x93NUMPY"])
def test_a_damaged_file_of_orders_is_refused(trace, content) -> None:
    (trace / "arrivals" / "own.npz").write_bytes(content)
    with pytest.raises(TraceError, match=r"own\.npz: cannot be read: .*; expected a \.npz file"):
        read_mix(trace, "own")


def test_a_file_of_orders_that_is_damaged_within_an_array_is_refused(trace) -> None:
    path = trace / "arrivals" / "own.npz"
    path.write_bytes(path.read_bytes().replace(b"descr", b"xxxxx", 1))
    with pytest.raises(TraceError, match=r"own\.npz: pods_42: cannot be read"):
        read_mix(trace, "own")


def test_a_single_array_is_no_file_of_orders(trace) -> None:
    with (trace / "arrivals" / "own.npz").open("wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(TraceError, match=r"own\.npz: a single array, expected a \.npz file"):
        read_mix(trace, "own")


def test_the_command_refuses_a_damaged_file_of_orders(play, capsys, trace) -> None:
    (trace / "arrivals" / "own.npz").write_bytes(b"garbage")
    assert "own.npz: cannot be read" in refused(play, capsys)


@pytest.mark.parametrize("text", ["43-42", "42,51-43"])
def test_a_range_of_seeds_that_ends_before_it_starts_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected first <= last"):
        parse_seeds(text)


@pytest.mark.parametrize("text", ["", "42-", "-42", "42,,43"])
def test_half_a_range_is_no_seeds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected seeds as 42, 42-51 or 42,45-47"):
        parse_seeds(text)


def test_a_seed_that_is_named_twice_is_played_once() -> None:
    assert parse_seeds("43,42-44,42") == [43, 42, 44]


def test_a_mix_that_is_named_twice_is_played_once(play) -> None:
    assert len(play("--mix", "own,all")) == len(play("--mix", "own"))


def test_all_may_be_joined_with_other_policies() -> None:
    assert parse_policies("first-fit,all,fgd,first-fit") == ["first-fit", *PUBLISHED_RULES]


def test_every_policy_plays_a_few_unmeasured_pods_before_the_first_run(play) -> None:
    arrivals = len(VALID["pods_42"])
    warm = [("bestfit", WARM_UP_ARRIVALS), ("fgd", WARM_UP_ARRIVALS)]
    assert play("--policy", "bestfit,fgd") == [*warm, ("bestfit", arrivals), ("fgd", arrivals)]


def allocation_until(last: int, value: float) -> list[float | None]:
    return [value] * (last + 1) + [None] * (LOAD_STEPS - last - 1)


def cells_of(table: object, heading: str) -> list[str]:
    return next(list(column.cells) for column in table.columns if column.header == heading)


def test_a_mix_that_ends_early_shows_its_last_load_step_that_every_run_reached() -> None:
    runs = [Run("own", "bestfit", seed, allocation_until(last, 50.0), 0, 0.1) for seed, last in ((1, 98), (2, 97))]
    assert cells_of(table_of(runs, {}), "mean") == ["50.00 at 97 %"]


def test_a_mix_that_ends_early_is_compared_with_fgd_at_that_step() -> None:
    runs = [Run("own", name, 1, allocation_until(90, value), 0, 0.1) for name, value in (("fgd", 60), ("bestfit", 50))]
    assert cells_of(table_of(runs, {}), "minus FGD [95 %]") == ["", "-10.00"]


def test_a_published_number_that_is_not_there_is_a_dash() -> None:
    runs = [Run("own", "bestfit", 1, [50.0] * LOAD_STEPS, 0, 0.1)]
    assert cells_of(table_of(runs, {("own", "bestfit", 1): allocation_until(90, 50.0)}), "published") == ["-"]


@pytest.mark.parametrize(("published", "shown"), [({}, ""), ({("own", "random", 1): [50.0] * LOAD_STEPS}, "a band")])
def test_random_is_a_band_only_beside_a_published_number(published, shown) -> None:
    runs = [Run("own", "random", 1, [50.0] * LOAD_STEPS, 0, 0.1)]
    assert cells_of(table_of(runs, published), "cells off") == [shown]


def wide_policy(path: Path) -> Path:
    resources = ("cpu", "memory", "gpu", "licence")
    names = feature_names(resources)
    properties = metadata_of(resources=resources, feature_names=names).to_properties()
    path.write_bytes(policy_file(np.ones(len(names)), properties=properties))
    return path


def test_a_policy_for_other_resources_than_the_traces_is_refused_by_name(trace) -> None:
    policies = parse_policies(str(wide_policy(trace / "wide.onnx")))
    with pytest.raises(PolicyError, match=r"wide: made for .*licence, expected those of the trace: cpu, memory, gpu$"):
        check_resources(read_mix(trace, "own"), policies)


def test_the_command_refuses_a_policy_for_other_resources_before_playing(play, capsys, trace) -> None:
    assert "made for the resources" in refused(play, capsys, "--policy", str(wide_policy(trace / "wide.onnx")))


def files(folder: Path, *names: str) -> str:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(policy_file())
    return ",".join(str(folder / name) for name in names)


def names_in(text: str) -> list[str]:
    return [policy if isinstance(policy, str) else policy.name for policy in parse_policies(text)]


def test_files_called_policy_are_named_by_their_folders(tmp_path: Path) -> None:
    assert names_in(files(tmp_path, "a/policy.onnx", "b/policy.onnx")) == ["a", "b"]


def test_files_of_one_name_are_named_by_their_paths(tmp_path: Path) -> None:
    text = files(tmp_path, "a/new.onnx", "b/new.onnx")
    assert names_in(text) == text.split(",")


def test_a_file_that_is_called_as_a_rule_is_named_by_its_path(tmp_path: Path) -> None:
    assert names_in(f"fgd,{files(tmp_path, 'fgd.onnx')}") == ["fgd", str(tmp_path / "fgd.onnx")]


def test_a_file_that_is_named_in_two_ways_is_played_once(tmp_path: Path) -> None:
    text = files(tmp_path, "a/policy.onnx")
    assert names_in(f"{text},{tmp_path}/a/../a/policy.onnx") == ["a"]


@pytest.mark.parametrize("text", ["0-999999999999", "42,0-10000", "0-9999,0-9999", "1-5000,6000-20000"])
def test_more_seeds_than_anybody_means_are_refused_before_they_are_listed(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="more than 10,000 seeds, expected fewer, as 42-51"):
        parse_seeds(text)


def test_ten_thousand_seeds_are_not_too_many() -> None:
    assert len(parse_seeds("0-9999")) == 10_000


def published_file(folder: Path, header: str | None = None, **cells: str) -> Path:
    """A file of published allocations with one row, which has these cells."""
    names = ["trace", "policy", "seed", *(str(step) for step in range(LOAD_STEPS))]
    row = {"trace": "own", "policy": "FGD", "seed": "42", **{f"at{step}": "1.5" for step in range(LOAD_STEPS)}, **cells}
    lines = [header or ",".join(names), ",".join(row.values())]
    (folder / "published_allocation.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    ("cells", "place", "expected"),
    [
        ({"at17": "high"}, "column '17': 'high'", "where an allocation in %, or nothing was expected"),
        ({"at130": "nan"}, "column '130': 'nan'", "where an allocation in %, or nothing was expected"),
        ({"seed": "4.2"}, "column 'seed': '4.2'", "where a whole number, 0 or more was expected"),
        ({"at130": "1,2"}, "column 135: '2'", "where the end of the line was expected"),
    ],
)
def test_a_published_cell_that_cannot_be_read_is_named(tmp_path: Path, cells: dict[str, str], place, expected) -> None:
    with pytest.raises(TraceError) as raised:
        read_published(published_file(tmp_path, **cells))
    assert str(raised.value).startswith(f"{tmp_path / 'published_allocation.csv'}:2: {place} {expected}")


def test_a_published_column_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"published_allocation\.csv:1: column '0' is missing; the header names trace"):
        read_published(published_file(tmp_path, header="trace,policy,seed"))


def test_an_empty_published_cell_is_no_number_and_other_policies_are_left_out(tmp_path: Path) -> None:
    [cells] = read_published(published_file(tmp_path, at1="")).values()
    assert cells[:3] == [1.5, None, 1.5]
    assert read_published(published_file(tmp_path, policy="Tetris")) == {}
