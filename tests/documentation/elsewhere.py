"""Commands in the pages that are not run as they stand: each with the reason, and with the test that does the same.

Everything that no line here matches is run literally, in the order of its page (`test_commands`).
"""

from typing import NamedTuple


class Elsewhere(NamedTuple):
    """A kind of command.

    Attributes:
        pattern: regular expression, searched in the call's words joined by blanks.
        reason: why it is not run as it stands.
        proof: what does the same: a test (FILE or FILE::NAME), or a make target that `.ci/run` makes.
    """

    pattern: str
    reason: str
    proof: str


CLUSTER, LONG, SERVES = "needs a cluster", "takes minutes to hours", "serves until it is stopped"

ELSEWHERE = (
    Elsewhere(r"^make quickstart$", LONG, "tests/training/test_run.py::test_a_run_leaves_everything_in_its_folder"),
    Elsewhere(r"^make demo$", SERVES, "tests/training/demo/test_browser.py"),
    Elsewhere(r"^docker build ", "needs a registry's images", "tests/cluster/kind/test_image.py"),
    Elsewhere(r"^docker push ", "needs a registry", "tests/cluster/kind/test_image.py"),
    Elsewhere(r"^helm (install|upgrade|rollback|uninstall) ", CLUSTER, "tests/chart/test_release.py"),
    Elsewhere(r"^helm test ", CLUSTER, "tests/cluster/kind/test_release.py"),
    Elsewhere(r"^kubectl get (nodes|pods) ", CLUSTER, "tests/training/workloads/test_kubectl.py"),
    Elsewhere(r"^kubectl .*(get configmap|logs) ", CLUSTER, "tests/cluster/kind/test_extender_alone.py"),
    Elsewhere(
        r"^kubectl .* configmap candidate",
        CLUSTER,
        "tests/cluster/kind/test_release.py::test_a_candidate_comes_and_goes_with_its_configmap",
    ),
    Elsewhere(r"^kubectl .*(kwok-stages|kind-kwok\.yaml|deployment/kwok)", CLUSTER, "tests/cluster/kind/test_trial.py"),
    Elsewhere(r"^kubectl .* exec .* explain ", CLUSTER, "tests/extender/server/test_explain.py"),
    Elsewhere(
        r"^xargs .*kubectl .* exec .*/rollback",
        CLUSTER,
        "tests/extender/server/test_rollout.py::test_what_the_operators_guide_runs_in_every_pod_rolls_back",
    ),
    Elsewhere(r"^kubectl .* port-forward ", CLUSTER, "tests/extender/server/test_rollout.py"),
    Elsewhere(r"^curl .*/rollback$", CLUSTER, "tests/extender/server/test_rollout.py"),
    Elsewhere(r"^mkdir -p trace$", "makes room for what a cluster prints", "tests/training/workloads/test_kubectl.py"),
    Elsewhere(r"pip install ", "installs what is installed", "make install"),
    Elsewhere(r"stowage-extender serve ", SERVES, "tests/extender/server/test_run.py"),
    Elsewhere(r"stowage-extender explain ", "asks a running extender", "tests/extender/server/test_explain.py"),
    Elsewhere(r"-m training\.monitor ", "needs a decision log", "tests/training/monitor/test_monitor.py"),
    Elsewhere(r"-m training\.run ", LONG, "tests/training/test_run.py"),
    Elsewhere(r"-m training\.compare ", LONG, "tests/training/comparison/test_compare.py"),
    Elsewhere(r"-m training\.benchmarks\.openb ", LONG, "tests/training/benchmarks/test_openb.py"),
    Elsewhere(r"-m training\.evaluate$", LONG, "tests/training/test_evaluate.py"),
    Elsewhere(r"-m training\.evaluate .*--workload (openb|kubectl)", LONG, "tests/training/test_evaluate.py"),
    Elsewhere(r"-m training\.evaluate .*--scheduler ", LONG, "tests/training/test_evaluate.py"),
    Elsewhere(r"-m training\.cycle ", "needs a running extender", "tests/cluster/test_cycle.py"),
    Elsewhere(r"^make cycle", CLUSTER, "tests/cluster/test_cycle.py"),
    Elsewhere(r"pre-commit install$", "changes the checkout", "tests/release/test_project_files.py"),
    Elsewhere(r"-m pytest ", "CI runs them all", "make test"),
    Elsewhere(r"\.ci/release\.py ", "needs Helm and a checkout", "tests/release/test_release.py"),
    # What is left of programs of which only some commands are quick.
    Elsewhere(r"^make ", "CI makes it, or the test of what it does", "make test"),
    Elsewhere(r"^kubectl ", CLUSTER, "tests/cluster"),
    Elsewhere(r"-m training\.(?!evaluate|completion)", LONG, "tests/training"),
)
