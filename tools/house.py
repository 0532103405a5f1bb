"""Count what makes the source easy or hard to live in, for one tree or for two side by side.

python tools/house.py                      # this checkout
python tools/house.py ../before .          # a column each
"""

from __future__ import annotations

import ast
import collections
import io
import pathlib
import re
import sys
import tokenize
from collections.abc import Iterator

# Wordings that docs/style.md replaces; each is a pattern that a native reader of the field would stumble over.
PHRASES = [
    r"(?<!there )\b(is|are|was|were) no (?!longer|more|op\b)[a-z]+",
    r"\bgo(es|ne)? on with\b",
    r"\bof (no )?use to\b",
    r"\balike\b",
    r"\blikewise\b",
    r'"""What ',
    r"\bis to be (played|had)\b",
    r"\b(a|an) (step|worker|lane|environment|trial|agent|minibatch|seed|member|device) each\b",
    r"\bworth knowing\b",
    r"\bend of the world\b",
    r"\bis already there\b",
    r"\bdrawn anew\b",
    r"\bbut for\b",
]


def sources(root: pathlib.Path) -> list[pathlib.Path]:
    """The package's files."""
    return sorted((root / "purerl").rglob("*.py"))


def texts(root: pathlib.Path) -> list[pathlib.Path]:
    """Everything that people read: sources, tests, examples, benchmarks and pages."""
    folders = ("purerl", "tests", "benchmarks", "examples", "docs")
    files = [path for folder in folders for end in ("py", "md") for path in (root / folder).rglob(f"*.{end}")]
    return sorted([*files, *root.glob("*.md")])


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Every function of a file, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def outermost(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Functions and methods, but not the functions inside them."""
    scopes = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    return (node for scope in scopes for node in scope.body if isinstance(node, ast.FunctionDef))


def body_lines(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    length = (function.end_lineno or 0) - function.lineno + 1
    if _has_docstring(function):
        length -= (function.body[0].end_lineno or 0) - function.body[0].lineno + 1
    return length


def any_parameters(function: ast.FunctionDef) -> int:
    """Parameters annotated with something that is, or contains, `Any` or a bare `Callable[..., Any]`."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return sum(arg.annotation is not None and "Any" in names(arg.annotation) for arg in every)


def names(node: ast.AST) -> set[str]:
    """Identifiers within a node."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def late_imports(tree: ast.AST) -> int:
    """Imports inside functions."""
    return sum(isinstance(node, ast.Import | ast.ImportFrom) for each in functions(tree) for node in ast.walk(each))


def comments(text: str) -> int:
    """Comments, apart from instructions to tools and section rulers."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found = [token.string for token in tokens if token.type == tokenize.COMMENT]
    return sum(not re.match(r"# ?(type:|noqa|fmt:|ruff:|---)", each) for each in found)


def duplicated_lines(files: list[pathlib.Path], window: int = 6) -> int:
    """Windows of six lines of function bodies, docstrings apart, that occur in more than one place."""
    seen: collections.Counter[tuple[str, ...]] = collections.Counter()
    for path in files:
        text = path.read_text()
        lines = text.splitlines()
        for function in outermost(ast.parse(text)):
            first = function.body[_has_docstring(function) :]
            code = (
                [line.strip() for line in lines[first[0].lineno - 1 : function.end_lineno] if line.strip()]
                if first
                else []
            )
            seen.update(tuple(code[i : i + window]) for i in range(len(code) - window + 1))
    return sum(count - 1 for count in seen.values() if count > 1)


def _has_docstring(function: ast.FunctionDef) -> bool:
    first = function.body[0]
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def count(root: pathlib.Path) -> dict[str, float]:
    """All counts of one tree."""
    files = sources(root)
    library = [path for path in files if "commands" not in path.parts and path.name != "cli.py"]
    parsed = {path: ast.parse(path.read_text()) for path in files}
    lines = sum(len(path.read_text().splitlines()) for path in files)
    every = [function for tree in parsed.values() for function in functions(tree)]
    pages = [path.read_text() for path in texts(root)]
    return {
        "entries at the top of purerl/": len([p for p in (root / "purerl").iterdir() if p.name != "__pycache__"]),
        "files over 300 lines": sum(len(path.read_text().splitlines()) > 300 for path in files),
        "functions over 60 lines without docstring": sum(body_lines(function) > 60 for function in every),
        "Any parameters outside the command line": sum(
            any_parameters(f) for p in library for f in functions(parsed[p])
        ),
        "duplicate windows of six lines": duplicated_lines(files),
        "imports inside functions": sum(late_imports(tree) for tree in parsed.values()),
        "of these in commands/": sum(late_imports(tree) for path, tree in parsed.items() if "commands" in path.parts),
        "comments per hundred lines": round(100 * sum(comments(path.read_text()) for path in files) / lines, 2),
        "examples that run (>>>)": sum(path.read_text().count(">>> ") for path in files),
        "phrases to reword": sum(len(re.findall(phrase, page)) for page in pages for phrase in PHRASES),
        "lines": lines,
    }


def main() -> None:
    """Print the counts, a column per tree."""
    columns = [count(pathlib.Path(argument)) for argument in sys.argv[1:] or ["."]]
    for name in columns[0]:
        print(f"{name:45}" + "".join(f"{column[name]:>10}" for column in columns))


if __name__ == "__main__":
    main()
