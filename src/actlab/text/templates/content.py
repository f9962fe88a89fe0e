"""YAML as grammars need it: what the language hides is an error."""

import re
from typing import Any

from actlab.ground.errors import ActlabError, DataError

_HIDDEN_SLOT = re.compile(r"\s*#[^\W\d]\w*(\.\w+)*#")


def yaml_mapping(text: str, where: str, *, hint: str) -> dict[Any, Any]:
    """Return the mapping that a YAML text holds.

    Raises:
        DataError: It is not YAML, holds something else, repeats a key, or loses a slot to a comment.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # the same rules as safe_load's, read faster
    try:
        root = loader.get_single_node()
        _refuse_what_yaml_hides(root, text.splitlines(), where)
        content = None if root is None else loader.construct_document(root)
    except ActlabError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{where} is not YAML: {reason}", hint="check colons, brackets and quotes there") from None
    finally:
        loader.dispose()
    if not isinstance(content, dict):
        raise DataError(f"{where} holds no mapping", hint=hint)
    return content


def _refuse_what_yaml_hides(root: Any, lines: list[str], where: str) -> None:
    """Refuse repeated keys, of which YAML would keep the last, and slots that it would take for comments."""
    import yaml

    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = [str(key.value) for key, _ in node.value]
            if len(set(keys)) < len(keys):
                twice = next(key for key in keys if keys.count(key) > 1)
                raise DataError(
                    f"{where} has {twice!r} twice (line {node.start_mark.line + 1})", hint="keep one of them"
                )
            nodes += [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.ScalarNode) and node.style in (None, ""):  # plain, without quotes
            rest = lines[node.end_mark.line][node.end_mark.column :] if node.end_mark.line < len(lines) else ""
            if _HIDDEN_SLOT.match(rest):
                raise DataError(
                    f"{where}: line {node.end_mark.line + 1} loses a slot: YAML takes what follows ' #' for a comment",
                    hint="put the text into quotes",
                )
