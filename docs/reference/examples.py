"""Lets mkdocstrings see our `Example:` sections, which hold doctests, as Google-style `Examples:`."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?m)^(\s*)Example:$")


class Examples(griffe.Extension):
    """Renames the section where it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(r"\1Examples:", obj.docstring.value)
