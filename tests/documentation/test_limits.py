"""What the README says of where a policy is worse is what its model card says."""

import re

from tests.documentation.pages import ROOT


def test_the_readmes_limits_have_the_cards_waits_at_the_highest_load() -> None:
    card = (ROOT / "extender" / "policies" / "latency.md").read_text()
    limits = (ROOT / "README.md").read_text().partition("\n## Limits\n")[2].partition("\n## ")[0]
    [row] = re.findall(r"^\| 0\.98 \|(.*)\|$", card, re.MULTILINE)
    means = [mean.strip() for mean in row.split("|")[:5]]
    assert [mean for mean in means if not re.search(rf"\b{mean} s with", limits)] == []
