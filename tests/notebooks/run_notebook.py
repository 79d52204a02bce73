"""Run a notebook's code cells in order, as Jupyter would, without Jupyter: run_notebook.py FILE [FOLDER]

What a cell ends in is shown: text is printed, HTML and pictures go to FOLDER as cell-NN.html and .png.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

Notebook = dict[str, Any]


def read(path: Path) -> Notebook:
    notebook: Notebook = json.loads(path.read_text("utf-8"))
    return notebook


def code_cells(notebook: Notebook) -> list[tuple[int, str]]:
    """The code cells with their places."""
    cells = enumerate(notebook["cells"])
    return [(place, "".join(cell["source"])) for place, cell in cells if cell["cell_type"] == "code"]


def run_cell(source: str, name: str, namespace: dict[str, Any]) -> Any:
    """The value of the cell's last line, where that is an expression."""
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), namespace)  # noqa: S102  (this repository's own notebooks)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), name, "eval"), namespace)  # noqa: S307


def show(value: Any, stem: Path | None) -> None:
    """What Jupyter would show of a value."""
    if value is None:
        return
    for method, suffix in (("_repr_html_", ".html"), ("_repr_png_", ".png")):
        content = getattr(value, method, lambda: None)()
        if content is None:  # matplotlib's figures have a _repr_html_ that mostly gives none
            continue
        print(f"[{len(content)} {suffix}]")  # noqa: T201
        if stem:
            stem.with_suffix(suffix).write_bytes(content.encode() if isinstance(content, str) else content)
        return
    print(repr(value))  # noqa: T201


def main(path: str, folder: str | None = None) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for place, source in code_cells(read(Path(path))):
        print(f"--- cell {place}", flush=True)  # noqa: T201
        value = run_cell(source, f"{Path(path).name}, cell {place}", namespace)
        show(value, Path(folder) / f"cell-{place:02d}" if folder else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
