from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement import CPU, GPU, MEMORY
from training.workloads.csv_trace import (
    NODE_COLUMNS,
    NODE_FILE,
    OPTIONAL_NODE_COLUMNS,
    OPTIONAL_POD_COLUMNS,
    POD_COLUMNS,
    POD_FILE,
    read_population,
)
from training.workloads.tables import TraceError

GIB = 1024**3
NODE = {"name": "a", "cpu": "8", "memory": "32Gi"}
POD = {"name": "p", "arrival": "0", "duration": "60", "cpu": "500m", "memory": "1Gi"}


def table(columns: list[str], *rows: dict[str, str]) -> str:
    lines = [",".join(columns)]
    for row in rows:
        lines.append(",".join('"' + row.get(column, "").replace('"', '""') + '"' for column in columns))
    return "\n".join(lines) + "\n"


def write(folder: Path, nodes: list[dict[str, str]], pods: list[dict[str, str]], further: tuple[str, ...] = ()) -> Path:
    (folder / NODE_FILE).write_text(table([*NODE_COLUMNS, *OPTIONAL_NODE_COLUMNS, *further], *nodes))
    (folder / POD_FILE).write_text(table([*POD_COLUMNS, *OPTIONAL_POD_COLUMNS, *further], *pods))
    return folder


def read(folder: Path, nodes: list[dict[str, str]], pods: list[dict[str, str]], further: tuple[str, ...] = ()):
    return read_population(write(folder, nodes, pods, further))


def test_amounts_are_read_as_kubernetes_writes_them(tmp_path):
    population = read(tmp_path, [NODE | {"gpus": "2"}], [POD | {"gpus": "1", "gpu_milli": "250"}])
    assert population.allocatable.tolist() == [[8000, 32 * GIB, 2000]]
    assert population.shapes.request.tolist() == [[500, GIB, 250]]


def test_only_the_required_columns_have_to_be_there(tmp_path):
    (tmp_path / NODE_FILE).write_text("name,cpu,memory\na,8,32Gi\n")
    (tmp_path / POD_FILE).write_text("name,arrival,duration,cpu,memory\np,0,60,1,1Gi\n")
    population = read_population(tmp_path)
    assert population.devices.tolist() == [0]
    assert population.pod_limit.tolist() == [110]
    assert population.priority.tolist() == [0]
    assert population.expected.tolist() == [0.0]


def test_a_whole_gpu_is_asked_for_unless_a_part_is(tmp_path):
    population = read(tmp_path, [NODE | {"gpus": "2"}], [POD | {"gpus": "2"}])
    assert (population.shapes.gpu_count.tolist(), population.shapes.gpu_milli.tolist()) == ([2], [1000])
    assert population.shapes.request[0, GPU] == 2000


def test_what_a_pod_said_of_its_duration_is_kept(tmp_path):
    assert read(tmp_path, [NODE], [POD | {"expected_seconds": "90.5"}]).expected.tolist() == [90.5]


def test_a_price_of_the_file_comes_before_the_default(tmp_path):
    population = read(tmp_path, [NODE | {"price": "3.5"}, NODE | {"name": "b"}], [POD])
    assert population.price[0] == 3.5
    assert population.price[1] == pytest.approx(8 * 0.03 + 32 * 0.004)


def test_further_resources_are_columns_named_as_in_kubernetes(tmp_path):
    licence = "example.com/licence"
    population = read(tmp_path, [NODE | {licence: "4"}], [POD | {licence: "2"}], further=(licence,))
    assert population.resources == ("cpu", "memory", "gpu", licence)
    assert population.allocatable[0, 3] == 4
    assert population.shapes.request[0, 3] == 2


def test_arrivals_may_be_dates(tmp_path):
    first, second = POD | {"arrival": "2026-11-21T08:30:00Z"}, POD | {"name": "q", "arrival": "2026-11-22T08:30:00Z"}
    assert read(tmp_path, [NODE], [second, first]).arrival.tolist() == [86400 + 8.5 * 3600, 8.5 * 3600]


def test_arrivals_in_unix_seconds_keep_their_hour(tmp_path):
    assert read(tmp_path, [NODE], [POD | {"arrival": str(1_700_000_000)}]).arrival.tolist() == [1_700_000_000 % 86400]


TWO_MODELS = [NODE | {"gpus": "1", "gpu_model": "T4"}, NODE | {"name": "b", "gpus": "1", "gpu_model": "A10"}]


def test_gpu_models_limit_the_nodes(tmp_path):
    population = read(tmp_path, TWO_MODELS, [POD | {"gpus": "1", "gpu_models": "A10|H100"}])
    assert population.admits.tolist() == [[False, True]]
    assert dict(zip(population.models, population.shapes.models[0].tolist(), strict=True)) == {
        "": False,
        "A10": True,
        "T4": False,
    }


def test_a_node_selector_limits_the_nodes(tmp_path):
    nodes = [NODE | {"labels": "zone=x;disk=ssd"}, NODE | {"name": "b", "labels": "zone=x"}]
    assert read(tmp_path, nodes, [POD | {"node_selector": "zone=x;disk=ssd"}]).admits.tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("tolerations", "admitted"),
    [
        ("", False),
        ("gpu", True),
        ("gpu=yes:NoSchedule", True),
        ("gpu=no", False),
        ("*", True),
        ("gpu:NoExecute", False),
    ],
)
def test_a_taint_keeps_pods_off_that_do_not_tolerate_it(tmp_path, tolerations, admitted):
    nodes = [NODE, NODE | {"name": "b", "taints": "gpu=yes:NoSchedule"}]
    assert read(tmp_path, nodes, [POD | {"tolerations": tolerations}]).admits.tolist() == [[True, admitted]]


def test_a_taint_that_only_prefers_keeps_nobody_off(tmp_path):
    assert read(tmp_path, [NODE | {"taints": "gpu:PreferNoSchedule"}], [POD]).admits.tolist() == [[True]]


def test_a_node_that_takes_no_pods_admits_none(tmp_path):
    assert read(tmp_path, [NODE, NODE | {"name": "b", "pods": "0"}], [POD]).admits.tolist() == [[True, False]]


def test_pods_that_fit_nowhere_are_counted_in_the_name(tmp_path):
    population = read(tmp_path, [NODE], [POD, POD | {"name": "q", "cpu": "9"}])
    assert population.name.endswith("1 nodes and 2 pods read from nodes.csv and pods.csv, 1 of which fit on no node")


def test_that_no_pod_fits_anywhere_is_an_error(tmp_path):
    with pytest.raises(TraceError, match=r"pods\.csv: none of the 1 pods fits on any of the 1 nodes"):
        read(tmp_path, [NODE], [POD | {"gpus": "1"}])


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"cpu": "8 cores"}, r"nodes\.csv:3: column 'cpu': '8 cores' where a Kubernetes quantity such as 2, 500m"),
        ({"memory": ""}, r"nodes\.csv:3: column 'memory': empty where a Kubernetes quantity"),
        ({"memory": "-1Gi"}, r"nodes\.csv:3: column 'memory': '-1Gi' where a Kubernetes quantity, 0 or more"),
        ({"gpus": "63"}, r"nodes\.csv:3: column 'gpus': '63' where a whole number, 62 at most"),
        ({"name": "a"}, r"nodes\.csv:3: column 'name': 'a' where a name that is not yet in nodes\.csv .*on line 2"),
        ({"name": ""}, r"nodes\.csv:3: column 'name': empty where a name"),
        ({"labels": "zone"}, r"nodes\.csv:3: column 'labels': 'zone' where key=value pairs separated by ;"),
        ({"taints": "gpu:Never"}, r"nodes\.csv:3: column 'taints': 'gpu:Never' where key=value:effect"),
        ({"price": "nan"}, r"nodes\.csv:3: column 'price': 'nan' where a price, 0 or more"),
    ],
)
def test_a_wrong_node_is_named_by_file_line_and_column(tmp_path, node, message):
    with pytest.raises(TraceError, match=message):
        read(tmp_path, [NODE, NODE | {"name": "b"} | node], [POD])


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        ({"arrival": "-1"}, r"pods\.csv:3: column 'arrival': '-1' where a number of seconds, 0 or more"),
        ({"arrival": "2026-11-21"}, r"pods\.csv:3: column 'arrival': '2026-11-21' where a number of seconds"),
        ({"duration": "long"}, r"pods\.csv:3: column 'duration': 'long' where a number of seconds, 0 or more"),
        ({"duration": "inf"}, r"pods\.csv:3: column 'duration': 'inf' where a number of seconds"),
        ({"gpus": "2", "gpu_milli": "500"}, r"pods\.csv:3: column 'gpu_milli': '500' where 1000, because only a pod"),
        ({"gpu_milli": "500"}, r"pods\.csv:3: column 'gpu_milli': '500' where nothing, because the pod asks for 0"),
        ({"gpus": "1", "gpu_milli": "0"}, r"pods\.csv:3: column 'gpu_milli': '0' where 1 to 1000 thousandths"),
        ({"gpu_models": "T4||A10"}, r"pods\.csv:3: column 'gpu_models': .* names of GPU models separated by \|"),
        ({"priority": str(2**31)}, r"pods\.csv:3: column 'priority': '2147483648' where a whole number, 2147483647"),
        ({"tolerations": "*=x"}, r"pods\.csv:3: column 'tolerations': '\*=x' where key=value:effect"),
        ({"name": "p"}, r"pods\.csv:3: column 'name': 'p' where a name that is not yet in pods\.csv"),
    ],
)
def test_a_wrong_pod_is_named_by_file_line_and_column(tmp_path, pod, message):
    with pytest.raises(TraceError, match=message):
        read(tmp_path, [NODE], [POD, POD | {"name": "q"} | pod])


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("", r"nodes\.csv:1: expected a header with the columns name, cpu, memory"),
        ("name,cpu\na,8\n", r"nodes\.csv:1: column 'memory' is missing; the header names name, cpu"),
        ("name,cpu,memory,gpu\na,8,1Gi,1\n", r"nodes\.csv:1: column 'gpu' is not known: expected one of .*gpus"),
        ("name,cpu,memory,cpu\na,8,1Gi,8\n", r"nodes\.csv:1: column 'cpu' is there twice"),
        ("name,cpu,memory\n", r"nodes\.csv: there are no rows below the header"),
        ("name,cpu,memory\n\na,8\n", r"nodes\.csv:3: no value for column 'memory'"),
        ("name,cpu,memory\na,8,1Gi,9\n", r"nodes\.csv:2: column 4: '9' where the end of the line was expected"),
        ('name,cpu,memory\na,"8"x,1Gi\n', r"nodes\.csv:2: expected comma-separated values"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, nodes, message):
    write(tmp_path, [NODE], [POD])
    (tmp_path / NODE_FILE).write_text(nodes)
    with pytest.raises(TraceError, match=message):
        read_population(tmp_path)


def test_a_missing_file_is_named_with_those_there_are(tmp_path):
    (tmp_path / "node.csv").write_text("")
    with pytest.raises(TraceError, match=r"nodes\.csv: no such file; the folder holds node\.csv"):
        read_population(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    write(tmp_path, [NODE], [POD])
    (tmp_path / NODE_FILE).write_bytes(b"name,cpu,memory\n\xff\xfe,8,1Gi\n")
    with pytest.raises(TraceError, match=r"nodes\.csv: expected text in UTF-8"):
        read_population(tmp_path)


CELLS = st.one_of(
    st.text(max_size=20),
    st.text(alphabet="0123456789.eEmKMGi+-:=;|*TZ", max_size=12),
    st.sampled_from(("nan", "inf", "1e400", "9" * 30, "-0", "1_000", "٣", "\x00", "a\nb", "0001-01-01", "9999-12-31")),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trace")


@given(
    st.sampled_from(
        [(NODE_FILE, column) for column in (*NODE_COLUMNS, *OPTIONAL_NODE_COLUMNS)]
        + [(POD_FILE, column) for column in (*POD_COLUMNS, *OPTIONAL_POD_COLUMNS)]
    ),
    CELLS,
)
def test_any_cell_is_read_or_named_by_file_line_and_column(folder, place, cell):
    file, column = place
    rows = {NODE_FILE: [NODE, NODE | {"name": "b", "gpus": "1"}], POD_FILE: [POD, POD | {"name": "q"}]}
    rows[file][1] = rows[file][1] | {column: cell}
    message = ""
    try:
        population = read(folder, rows[NODE_FILE], rows[POD_FILE])
    except TraceError as error:
        message = str(error)
    else:
        assert population.allocatable[:, [CPU, MEMORY]].min() >= 0
        assert population.duration.min() >= 0
        assert population.arrival.min() >= 0
    lines = range(3, 4 + len(cell.splitlines()))  # a line break in the cell is one in the file
    places = tuple(f"{folder / file}:{line}: column {column!r}: " for line in lines)
    assert message == "" or message.startswith(places)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_table_or_refused(folder, content):
    write(folder, [NODE], [POD])
    (folder / NODE_FILE).write_bytes(content)
    with pytest.raises(TraceError, match=NODE_FILE):
        read_population(folder)
