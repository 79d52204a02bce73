"""A progress bar on stderr, for commands that take a while; none where nobody watches."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

Progress = Callable[[str, int, int], None]  # what is being done, how much is done, of how much


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """A function to call with news; None when stderr is not a terminal or in continuous integration."""
    if not sys.stderr.isatty() or os.environ.get("CI"):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)
        current = ""

        def show(what: str, done: int, total: int) -> None:
            nonlocal current
            if what != current:
                bars.reset(task, description=what, total=total)
                current = what
            bars.update(task, completed=done, total=total)

        yield show
