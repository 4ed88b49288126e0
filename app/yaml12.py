"""YAML as people mean it in a spec, for the API, the client and the command line alike. Knows nothing of specs."""

from __future__ import annotations

import re
from typing import Any

import yaml


def load(text: str | bytes) -> Any:
    """What a YAML text stands for. Raises yaml.YAMLError, ValueError."""
    return yaml.load(text, _Loader)


class _Loader(yaml.SafeLoader):
    """YAML with neither anchors (a small text could stand for a huge value) nor repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not taken", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key) for key, _ in node.value]
        if len(keys) != len(set(map(str, keys))):
            raise yaml.constructor.ConstructorError(None, None, "a key is repeated", node.start_mark)
        return super().construct_mapping(node, deep)


# PyYAML is of YAML 1.1, where 1e-3 is text. People mean the number (as in YAML 1.2).
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
