"""Every Python block of the README and the docs runs as it is pasted."""

import ast

import code_blocks
import jax
import pytest

PAGES = [page for page in code_blocks.PAGES if code_blocks.blocks(page)]
LONG = {
    f"docs/{name}.md" for name in ("agents", "coming_from", "guides/optuna", "ideas", "index", "pbt", "sweeps", "tour")
}


def name(page):
    return str(page.relative_to(code_blocks.ROOT))


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (name(page) in LONG), id=name(page)) for page in PAGES]
)
def test_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for session in code_blocks.sessions(page):
        namespace = {"__name__": "pasted"}
        for block in session:
            program = compile(block.runnable(), str(code_blocks.ROOT / block.page), "exec")
            exec(program, namespace)
    jax.effects_barrier()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_syntax_of_blocks_that_are_not_run(page):
    for block in code_blocks.blocks(page):
        if block.not_run:
            ast.parse(block.code)
