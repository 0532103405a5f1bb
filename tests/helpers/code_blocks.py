"""Python blocks of the README and the pages under docs/, as a reader would paste them.

A block stands alone: it has its imports, and starts with no names. Above a block an HTML comment, which no reader sees,
may say otherwise:

    <!-- continues -->                      the block uses the names of the one before it
    <!-- smaller: num_updates=500 -> 2 -->  the tests run it with smaller numbers; several are separated by ";"
    <!-- not run: REASON -->                code of another library, or of several machines; only its syntax is checked
"""

from __future__ import annotations

import dataclasses
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(
    r"(?P<notes>(?:^ *<!--(?:(?!-->).)*-->\n)*)^(?P<indent> *)```python.*?\n(?P<code>.*?)^ *```$", re.M | re.S
)
_NOTE = re.compile(r"<!--\s*(.*?)\s*-->", re.S)


@dataclasses.dataclass(frozen=True)
class Block:
    """One block of a page.

    Attributes:
      page: the page, a path below the root.
      line: line of the page on which the code starts.
      code: the code as it is written.
      continues: it uses names of the block before.
      smaller: (before, after), replaced in the code before it is run.
      not_run: why it is not run, or "".
    """

    page: str
    line: int
    code: str
    continues: bool
    smaller: tuple[tuple[str, str], ...]
    not_run: str

    def runnable(self) -> str:
        """The code with its smaller sizes, on the lines that it has on the page."""
        code = self.code
        for before, after in self.smaller:
            assert before in code, f"{self.page}:{self.line}: nothing to make smaller: {before}"
            code = code.replace(before, after)
        return "\n" * (self.line - 1) + code


def blocks(page: pathlib.Path) -> list[Block]:
    """The Python blocks of a page, in order."""
    text = page.read_text()
    return [_block(page, text, match) for match in _BLOCK.finditer(text)]


def _block(page: pathlib.Path, text: str, match: re.Match[str]) -> Block:
    notes = _NOTE.findall(match["notes"])
    indent = len(match["indent"])
    code = "".join(line[indent:] if line.strip() else line for line in match["code"].splitlines(keepends=True))
    smaller = [pair for note in notes if note.startswith("smaller:") for pair in note[8:].split(";")]
    reasons = [note[8:].strip() for note in notes if note.startswith("not run:")]
    return Block(
        page=str(page.relative_to(ROOT)),
        line=text.count("\n", 0, match.start("code")) + 1,
        code=code,
        continues="continues" in notes,
        smaller=tuple(_replacement(pair) for pair in smaller),
        not_run="".join(reasons),
    )


def _replacement(pair: str) -> tuple[str, str]:
    """`num_updates=500 -> 2` replaces `num_updates=500` by `num_updates=2`."""
    before, after = (part.strip() for part in pair.split("->"))
    name = before.split("=")[0]
    return before, after if "=" in after or "=" not in before else f"{name}={after}"


def sessions(page: pathlib.Path) -> list[list[Block]]:
    """The blocks that are run, each list in one namespace: a block and those that continue it."""
    found: list[list[Block]] = []
    for block in blocks(page):
        if block.not_run:
            continue
        if block.continues and found:
            found[-1].append(block)
        else:
            found.append([block])
    return found
