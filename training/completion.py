"""Print completion of command lines for bash, and for zsh after bashcompinit.

    python -m training.completion > ~/.stowage-completion && echo 'source ~/.stowage-completion' >> ~/.bashrc
    source <(python -m training.completion)

Completes `stowage-extender` and, behind `python -m`, the commands of training: flags, and the keys of configurations.

Exit codes: 0 done; 2 the arguments were refused.
"""

import argparse
import importlib.util
import sys
from collections.abc import Iterator, Sequence

from extender.__main__ import PROGRAM, command_parser
from extender.closed_pipe import quiet_on_closed_pipe
from extender.completion import Completion, bash_script, of_parser, words_of
from training import compare, evaluate
from training.arguments import settings_of
from training.benchmarks import openb
from training.comparison import definition
from training.config import ALGORITHMS, Config
from training.cycle import __main__ as cycle
from training.cycle.settings import Settings as CycleSettings
from training.kind import __main__ as kind
from training.monitor import request as monitor
from training.replay import request as replay
from training.workloads import recorded

PROGRAMS = (PROGRAM, "python", "python3")
EXPERIMENTS = ("quickstart", "latency", "packing", "cycle")


def argument_parser() -> argparse.ArgumentParser:
    """What reads the command line."""
    return argparse.ArgumentParser(
        prog="python -m training.completion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run_words() -> tuple[str, ...]:
    """The keys of a run's configuration, with the names that a group may have written out."""
    groups = [f"algorithm={name}" for name in ALGORITHMS] + [f"experiment={name}" for name in EXPERIMENTS]
    keys = [f"{key}=" for key in settings_of(Config)]
    of_algorithms = {f"algorithm.{key}=" for arguments in ALGORITHMS.values() for key in settings_of(arguments)}
    return (*groups, *keys, *sorted(of_algorithms), "-m", "--help")


def completions() -> Iterator[Completion]:
    """Of every command that is installed."""
    yield from of_parser(PROGRAM, command_parser())
    parsers = {
        "training.evaluate": evaluate.argument_parser(),
        "training.benchmarks.openb": openb.argument_parser(),
        "training.workloads.recorded": recorded.argument_parser(),
        "training.cycle": cycle.argument_parser(),
        "training.monitor": monitor.argument_parser(),
        "training.replay": replay.argument_parser(),
        "training.kind": kind.argument_parser(),
        "training.completion": argument_parser(),
    }
    if importlib.util.find_spec("streamlit") is not None:
        from training.demo.__main__ import argument_parser as demo

        parsers["training.demo"] = demo()
    keys = {"training.cycle": [f"{key}=" for key in settings_of(CycleSettings)]}
    for module, parser in parsers.items():
        yield Completion(f"-m {module}", (*words_of(parser), *keys.get(module, ())))
    yield Completion("-m training.run", run_words())
    own = [f"{key}=" for key in compare.Request.model_fields if key != "experiment"]
    experiments = [f"experiment={name}" for name in definition.names()]
    yield Completion("-m training.compare", (*experiments, *own, *run_words()))
    yield Completion("-m", (*parsers, "training.run", "training.compare"))


@quiet_on_closed_pipe
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `python -m training.completion`."""
    argument_parser().parse_args(arguments)
    sys.stdout.write(bash_script(completions(), PROGRAMS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
