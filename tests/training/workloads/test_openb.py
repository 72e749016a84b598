import numpy as np
import pytest

from extender.placement import GPU
from training.workloads.base import BASE_RESOURCES
from training.workloads.openb import MIB, NODE_FILE, TRACES_VARIABLE, TraceError, find_traces, read_population

NODE_HEADER = "sn,cpu_milli,memory_mib,gpu,model\n"
POD_HEADER = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n"
)
NODES = NODE_HEADER + "node-0,64000,262144,2,P100\n"
PODS = (
    POD_HEADER
    + "pod-0,12000,16384,1,1000,,LS,Running,0,500,0\n"
    + "pod-1,6000,12288,1,460,,BE,Running,3600,3700,3600\n"
    + "pod-2,6000,12288,0,1000,,LS,Succeeded,7200,7260,7200\n"
)


@pytest.fixture
def folder(tmp_path):
    """A small trace that can be read."""
    (tmp_path / NODE_FILE).write_text(NODES)
    (tmp_path / "openb_pod_list_default.csv").write_text(PODS)
    return tmp_path


@pytest.fixture
def openb(openb_traces):
    return read_population(openb_traces)


def test_the_trace_has_the_nodes_and_pods_that_its_publishers_count(openb):
    assert len(openb.allocatable) == 1213
    assert openb.devices.sum() == 6212
    assert len(openb.shape) == 8152


def test_the_first_and_last_rows_of_the_trace_are_read_as_they_stand(openb):
    assert openb.allocatable[[0, -1]].tolist() == [[64000, 262144 * MIB, 2000], [96000, 393216 * MIB, 8000]]
    requests = openb.shapes.request[openb.shape]
    assert requests[[0, -1]].tolist() == [[12000, 16384 * MIB, 1000], [3152, 5600 * MIB, 590]]
    assert openb.duration[[0, -1]].tolist() == [12537496.0, 31.0]
    assert openb.priority[[0, -1]].tolist() == [1000, 0]


def test_best_effort_pods_of_the_trace_have_the_lowest_priority(openb):
    assert (openb.priority == 0).sum() == 3398
    assert set(openb.priority.tolist()) == {0, 1000}


def test_another_mix_of_the_trace_can_be_read(openb_traces):
    sharing_only = read_population(openb_traces, "gpushare100")
    with_gpu = sharing_only.shapes.gpu_count[sharing_only.shape] > 0
    assert np.all(sharing_only.shapes.gpu_milli[sharing_only.shape][with_gpu] < 1000)


def test_a_trace_becomes_a_population(folder):
    population = read_population(folder)
    assert population.resources == BASE_RESOURCES
    assert population.allocatable.tolist() == [[64000, 262144 * MIB, 2000]]
    assert population.shapes.request[population.shape, GPU].tolist() == [1000, 460, 0]
    assert population.shapes.gpu_milli[population.shape].tolist() == [1000, 460, 0]
    assert population.duration.tolist() == [500.0, 100.0, 60.0]
    assert population.priority.tolist() == [1000, 0, 1000]
    assert population.rhythm.hour_weights[:4].tolist() == [1.0, 1.0, 1.0, 0.0]
    assert "1 nodes and 3 pods" in population.name


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (NODE_FILE, "64000", "64k", r"gpu_node\.csv:2: column 'cpu_milli': '64k' where a whole number"),
        (NODE_FILE, ",gpu,", ",gpus,", r"gpu_node\.csv:1: column 'gpu' is missing; the header names sn, cpu_milli"),
        ("openb_pod_list_default.csv", "3600,3700", "3600,", r"default\.csv:3: column 'deletion_time': empty"),
        (
            "openb_pod_list_default.csv",
            "1,460",
            "-1,460",
            r"default\.csv:3: column 'num_gpu': '-1' where a whole number, 0 or more",
        ),
        ("openb_pod_list_default.csv", "3600,3700", "3600,3500", r"default\.csv:3: column 'deletion_time'.*creation"),
        ("openb_pod_list_default.csv", PODS[len(POD_HEADER) :], "", r"default\.csv: .*no rows"),
        (NODE_FILE, NODES[len(NODE_HEADER) :], "", r"gpu_node\.csv: .*no rows"),
    ],
    ids=["no-number", "no-column", "empty", "negative", "ends-before-it-begins", "no-pods", "no-nodes"],
)
def test_what_cannot_be_read_is_named_by_file_line_and_column(folder, file, old, new, message):
    path = folder / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(TraceError, match=message):
        read_population(folder)


def test_pods_without_times_have_no_end_and_no_arrival(folder):
    path = folder / "openb_pod_list_multigpu40.csv"
    path.write_text("name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,4000,1024,2,1000\nb,2000,1024,0,0\n")
    population = read_population(folder, "multigpu40")
    assert np.isinf(population.duration).all()
    assert population.arrival is None
    assert population.shapes.gpu_count[population.shape].tolist() == [2, 0]


def test_a_missing_mix_is_refused_with_those_there_are(folder):
    with pytest.raises(TraceError, match=r"list_cpu050\.csv: no such file; .* openb_pod_list_default\.csv"):
        read_population(folder, "cpu050")


def test_the_setting_comes_before_the_environment(folder, monkeypatch, tmp_path_factory):
    monkeypatch.setenv(TRACES_VARIABLE, str(tmp_path_factory.mktemp("other")))
    assert find_traces(str(folder)) == folder


def test_the_environment_names_the_folder_or_the_one_above(folder, monkeypatch):
    monkeypatch.setenv(TRACES_VARIABLE, str(folder))
    assert find_traces() == folder
    (folder / "openb").mkdir()
    for file in folder.glob("*.csv"):
        file.rename(folder / "openb" / file.name)
    assert find_traces() == folder / "openb"


def test_a_named_folder_without_the_trace_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv(TRACES_VARIABLE, str(tmp_path))
    with pytest.raises(TraceError, match=f"expected a folder with {NODE_FILE}"):
        find_traces()


def test_no_trace_at_all_is_no_error(monkeypatch, tmp_path):
    monkeypatch.delenv(TRACES_VARIABLE, raising=False)
    monkeypatch.setattr("training.workloads.openb.__file__", str(tmp_path / "checkout/training/workloads/openb.py"))
    assert find_traces() is None
