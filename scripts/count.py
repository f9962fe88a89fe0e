"""Count what should stay small in the sources: statements, `Any`, long functions, what silences the type checker.

python scripts/count.py [SOURCES]           by room
python scripts/count.py --total [SOURCES]   as JSON, in one line
"""

import ast
import json
import re
import sys
from collections import Counter
from pathlib import Path

LONGEST = 60
"""Lines of a function, its docstring and decorators included."""


def is_docstring(node: ast.AST) -> bool:
    """Whether a statement is a text alone, as docstrings are, a module's, a function's or a field's."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def counts_of(path: Path) -> Counter[str]:
    """Return one file's counts."""
    text = path.read_text(encoding="utf-8")
    counts: Counter[str] = Counter(type_ignores=len(re.findall(r"#\s*type:\s*ignore", text)))
    for node in ast.walk(ast.parse(text)):
        counts["statements"] += isinstance(node, ast.stmt) and not is_docstring(node)
        counts["any"] += isinstance(node, ast.Name) and node.id == "Any"
        counts["casts"] += isinstance(node, ast.Call) and ast.unparse(node.func) in ("cast", "typing.cast")
        counts["planned_classes"] += isinstance(node, ast.ClassDef) and node.name.startswith("Planned")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            assert node.end_lineno is not None
            counts["long_functions"] += node.end_lineno - first + 1 > LONGEST
    return counts


def by_room(sources: Path) -> dict[str, Counter[str]]:
    """Return the counts of each folder or file two levels down."""
    rooms: dict[str, Counter[str]] = {}
    for path in sorted(sources.rglob("*.py")):
        room = "/".join(path.relative_to(sources).parts[:2])
        rooms.setdefault(room, Counter()).update(counts_of(path))
    return rooms


def main(arguments: list[str]) -> None:
    """Print the counts."""
    named = [one for one in arguments if one != "--total"]
    rooms = by_room(Path(named[0] if named else Path(__file__).parent.parent / "src" / "actlab"))
    total: Counter[str] = Counter()
    for counts in rooms.values():
        total.update(counts)
    if "--total" in arguments:
        print(json.dumps(total))
        return
    columns = ("statements", "any", "long_functions", "type_ignores", "casts", "planned_classes")
    print(f"{'':<28}" + "".join(f"{column:>16}" for column in columns))
    for room, counts in [*sorted(rooms.items(), key=lambda item: -item[1]["statements"]), ("total", total)]:
        print(f"{room:<28}" + "".join(f"{counts[column]:>16}" for column in columns))


if __name__ == "__main__":
    main(sys.argv[1:])
