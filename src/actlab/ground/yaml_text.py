"""YAML, looked at before it is built: what is huge, and keys that are set twice, of which YAML keeps the last."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from actlab.ground.errors import ActlabError
from actlab.ground.limits import refuse_large_yaml

if TYPE_CHECKING:
    from yaml import Node


def build_yaml(
    text: str, rules: str, *, where: str, kind: type[ActlabError], look: "Callable[[list[Node]], None]"
) -> object:
    """Return what a YAML text holds by the rules of PyYAML's "SafeLoader" or "BaseLoader"; None of an empty one.

    `look` is shown each node once, however many aliases it has, and refuses what is not to be built.

    Raises:
        ActlabError: Of the kind given: it is too large, or nests too deep.
        yaml.YAMLError, ValueError, TypeError, RecursionError: It is not YAML.
    """
    import yaml

    loader_class = getattr(yaml, f"C{rules}", getattr(yaml, rules))  # the same rules, read ten times faster
    refuse_large_yaml(text, loader_class, where, kind)
    loader = loader_class(text)
    try:
        root = loader.get_single_node()
        look(list(_nodes(root)))
        return None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


def _nodes(root: "Node | None") -> "Iterator[Node]":
    import yaml

    nodes, seen = [] if root is None else [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            nodes += [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value


def keys_set_twice(node: "Node", named: Callable[[object], str] = str) -> list[str]:
    """Return the keys that a node, where it is a mapping, has more than once, each by its name."""
    import yaml

    counts = Counter(named(key.value) for key, _ in node.value) if isinstance(node, yaml.MappingNode) else Counter()
    return [key for key, n in counts.items() if n > 1]
