"""Waiting without a clock: crystals that hang for ever under limits that no other one reaches."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class Hang:
    """Call it in a worker to hang for ever; the pool then takes the worker's time as over, and that of no other one.

    So a test of the time limit can give a limit that no good crystal reaches on the busiest machine, and ends at once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.after_looks = 0  # times that the pool looks at a hanging worker before its time is over

    def __call__(self) -> NoReturn:
        self.begin()
        while True:
            time.sleep(3600)

    def begin(self) -> None:
        """Say that this process hangs from now on."""
        (self.folder / str(os.getpid())).touch()

    def hangs(self, process: int | None) -> bool:
        """Whether the process of this number has said that it hangs."""
        said = (self.folder / str(process)).exists()
        self.after_looks -= said
        return said and self.after_looks < 0


def wait_until(condition: Callable[[], bool], failure: str) -> None:
    """Look again until a condition holds; ten minutes later it never will, however busy the machine."""
    until = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < until, failure
        time.sleep(0.05)
