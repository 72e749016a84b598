"""What the project's hosts and tools read: templates of issues, hooks of commits, the changelog."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
KINDS_OF_CHANGE = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}  # keepachangelog.com
FIELDS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}  # of GitHub's issue forms


@pytest.mark.parametrize("template", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda p: p.stem)
def test_an_issue_form_has_what_github_wants(template: Path) -> None:
    content = yaml.safe_load(template.read_text())
    if template.stem == "config":
        assert isinstance(content["blank_issues_enabled"], bool)
        return
    assert content["name"]
    assert content["description"]
    names = [field["id"] for field in content["body"]]
    assert len(set(names)) == len(names)
    for field in content["body"]:
        assert field["type"] in FIELDS
        assert field["attributes"]["label"]


def test_the_hooks_of_commits_are_valid_and_their_programs_are_installed() -> None:
    config = ROOT / ".pre-commit-config.yaml"
    binaries = Path(sys.executable).parent
    subprocess.run([str(binaries / "pre-commit"), "validate-config", str(config)], check=True, timeout=120)
    [repository] = yaml.safe_load(config.read_text())["repos"]
    for hook in repository["hooks"]:
        program = hook["entry"].split()[0]
        assert program.startswith(".venv/bin/")
        assert (binaries / Path(program).name).is_file(), hook["id"]


def test_the_changelog_keeps_to_its_format() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"(?m)^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text)
    assert versions[0] == ("Unreleased", "")
    assert all(date for _, date in versions[1:])
    assert set(re.findall(r"(?m)^### (.+)$", text)) <= KINDS_OF_CHANGE
