"""YAML of settings: read strictly, and bounded in what it may expand to."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from dvos.errors import ConfigError

# What a settings file may hold: many times what one of ours does.
_MOST_NESTED = 50
_MOST_NODES = 100_000
_MOST_DIGITS = 400
_NAME = 'in "<unicode string>", '


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    A ValueError of one line if it is no YAML, holds a key twice, or is too large or too deep.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError) as error:  # a date or number that is none, too
        raise ValueError(" ".join(str(error).replace(_NAME, "").split())) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping, perhaps empty; a ConfigError if the file is missing or holds none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError.at(path, "no such file", remedy="check the path") from error
    except (OSError, ValueError) as error:
        raise ConfigError.at(path, f"cannot be read ({error})", "a YAML text in UTF-8") from error
    try:
        values = parse_yaml(text)
    except ValueError as error:
        raise ConfigError.at(path, str(error), "valid YAML") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError.at(path, f"holds a {type(values).__name__}", "a mapping of settings")
    return values


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML of bounded size and depth, without keys given twice or anchors that multiply."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, and count what it holds with its anchors written out."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self._depth >= _MOST_NESTED:
            raise _yaml_error(f"is nested more than {_MOST_NESTED} deep", event.start_mark)
        alias = isinstance(event, yaml.AliasEvent)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if node.tag == "tag:yaml.org,2002:int" and len(node.value) > _MOST_DIGITS:
            raise _yaml_error(f"a number of {len(node.value)} digits", event.start_mark)
        if alias and id(node) not in self._sizes:
            raise _yaml_error(f"the anchor {event.anchor} holds itself", event.start_mark)
        if not alias:
            held: list[yaml.Node] = []
            if isinstance(node, yaml.MappingNode):
                held = [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                held = node.value
            self._sizes[id(node)] = 1 + sum(self._sizes[id(part)] for part in held)
        if self._sizes[id(node)] > _MOST_NODES:
            raise _yaml_error(f"holds more than {_MOST_NODES} values", event.start_mark)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse keys that stand twice, and those that are no plain values."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _yaml_error("a list or mapping stands as a key", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _yaml_error(f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _yaml_error(text: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, text, mark)
