"""What is compared: settings that all runs share, variants, seeds, and which variants are held against each other.

Definitions are `training/conf/comparison/*.yaml`, in the overrides that `python -m training.run` takes.
"""

import itertools
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

FOLDER = files("training.conf") / "comparison"


class Definition(BaseModel):
    """A comparison."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    seeds: int = Field(ge=2, description="of each variant; runs of the same seed are paired")
    settings: list[str] = Field(description="of all runs")
    variants: dict[str, list[str]] = Field(min_length=1, description="further settings, by the variant's name")
    pairs: list[tuple[str, str]] = Field(default=[], description="variant and what it is compared with; else all")

    def overrides(self, variant: str, seed: int) -> list[str]:
        """The settings of one run; the later of two that say the same counts."""
        given = [*self.settings, *self.variants[variant], f"seed={seed}", "training.threads=1", "ask=false"]
        return list({each.partition("=")[0]: each for each in [*given, "evaluation.baselines=[]"]}.values())

    def compared(self) -> list[tuple[str, str]]:
        """The pairs; every variant with every one before it where none are named."""
        return self.pairs or [(later, earlier) for earlier, later in itertools.combinations(self.variants, 2)]

    def runs(self, folder: Path) -> Iterator[tuple[str, int, Path]]:
        """Variant, seed and folder of every run; all variants of a seed after each other."""
        for seed in range(self.seeds):
            for variant in self.variants:
                yield variant, seed, folder / variant / f"seed{seed}"


def names() -> list[str]:
    """The comparisons that there are."""
    return sorted(each.name.removesuffix(".yaml") for each in FOLDER.iterdir() if each.name.endswith(".yaml"))


def read(name: str, seeds: int | None = None, settings: list[str] | None = None) -> Definition:
    """A comparison by its name, with further settings for all of its runs.

    Raises:
        ValueError: there is none of this name; or seeds or variants are not what they have to be.
    """
    if name not in names():
        raise ValueError(f"experiment={name}: there are {', '.join(names())}")
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    content["seeds"] = content["seeds"] if seeds is None else seeds
    content["settings"] += settings or []
    definition = Definition.model_validate(content)
    if unknown := {name for pair in definition.pairs for name in pair} - set(definition.variants):
        raise ValueError(f"{name}: pairs name {', '.join(sorted(unknown))}, which are no variants")
    return definition
