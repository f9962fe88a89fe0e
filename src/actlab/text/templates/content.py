"""YAML as grammars need it: scalars as they are written, and what the language hides is an error."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from actlab.ground.errors import DataError
from actlab.ground.yaml_text import build_yaml, keys_set_twice

if TYPE_CHECKING:
    from yaml import Node

Yaml = str | list["Yaml"] | dict[str, "Yaml"]
"""What a YAML file holds where every scalar is a text."""

_COMMENT = re.compile(r"#.*")
_SLOT_FIRST = re.compile(r"#[^\W\d]\w*(\.\w+)*#")
_LIKE_TEXT = re.compile(rf"#+\w|.*{_SLOT_FIRST.pattern}")


def yaml_mapping(text: str, where: str, *, hint: str) -> dict[str, Yaml]:
    """Return the mapping that a YAML text holds; every scalar in it is a text, so that 7:30 and no stay what they are.

    Raises:
        DataError: It is not YAML, holds something else, repeats a key, has a tag, or loses text to a comment.
    """
    import yaml

    def look(nodes: "list[Node]") -> None:
        _refuse_what_yaml_hides(nodes, where)
        _refuse_comments_like_text(text, nodes, where)

    try:
        content = build_yaml(text, "BaseLoader", where=where, kind=DataError, look=look)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{where} is not YAML: {reason}", hint="check colons, brackets and quotes there") from None
    if not isinstance(content, dict):
        raise DataError(f"{where} holds no mapping", hint=hint)
    return content


def _refuse_what_yaml_hides(nodes: "list[Node]", where: str) -> None:
    """Refuse repeated keys, of which YAML would keep the last, and tags, which would be passed over."""
    import yaml

    plain = {yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG, yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG,
             yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG}  # fmt: skip
    for node in nodes:
        line = node.start_mark.line + 1
        if node.tag not in plain:
            raise DataError(f"{where}: line {line} has the tag {node.tag!r}"[:300], hint="take it out, or quote it")
        if twice := keys_set_twice(node):
            raise DataError(f"{where} has {twice[0]!r} twice (line {line})", hint="keep one of them")


def _refuse_comments_like_text(text: str, nodes: "list[Node]", where: str) -> None:
    """Refuse a comment that was probably meant as text: with a slot, or without a space after its #.

    On a line of its own a comment may be anything that does not begin with a slot.
    """
    end = 0
    for start, next_end in [*sorted(_scalars(text, nodes)), (len(text), len(text))]:
        for comment in _COMMENT.finditer(text, end, start):  # outside of scalars every # begins a comment
            line_start = text.rfind("\n", 0, comment.start()) + 1
            is_alone = not text[line_start : comment.start()].strip()
            if (_SLOT_FIRST if is_alone else _LIKE_TEXT).match(comment[0]):
                line = text.count("\n", 0, line_start) + 1
                raise DataError(
                    f"{where}: line {line} loses {comment[0][:80]!r}: YAML takes what follows ' #' for a comment",
                    hint="put the text into quotes; a comment about slots has its own line, and a space after its #",
                )
        end = next_end


def _scalars(text: str, nodes: "list[Node]") -> Iterator[tuple[int, int]]:
    """Yield where each scalar begins and ends; the first line of a | or > block has no text, only comments."""
    import yaml

    for node in nodes:
        if isinstance(node, yaml.ScalarNode):
            start, end = node.start_mark.index, node.end_mark.index
            if node.style in ("|", ">"):
                start += len(text[start:end].partition("\n")[0])
            yield start, end
