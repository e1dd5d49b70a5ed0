"""Parsers of the command: flags with hyphens, spelled out; an unknown one is named with those that are like it.

Errors name arguments as Python spells them; inside `arguments_as_flags` their messages have the command's flags.
"""

import argparse
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from cloud_hf.errors import argument_spelling

__all__ = ["CommandParser", "arguments_as_flags", "name_flags", "unknown_flag"]


class _FlagSpelling:
    """From an argument's name in Python to the flag of the command, None if it has none.

    Attributes:
        flags: Those of the command, as soon as its parser has said them.
    """

    flags: Collection[str] = ()

    def __call__(self, name: str) -> str | None:
        words = name.replace("_", "-")
        ways = (f"--{words}", f"--encode-{words}")  # the latter where training has processes and limits of its own
        return next((flag for flag in ways if flag in self.flags), None)


@contextmanager
def arguments_as_flags() -> Iterator[None]:
    """Inside the block errors spell arguments as the flags of the command whose parser has been used."""
    before = argument_spelling.set(_FlagSpelling())
    try:
        yield
    finally:
        argument_spelling.reset(before)


def name_flags(flags: Collection[str]) -> None:
    """Say which flags the command has; without effect outside `arguments_as_flags`."""
    spelling = argument_spelling.get()
    if isinstance(spelling, _FlagSpelling):
        spelling.flags = flags


def unknown_flag(words: Sequence[str], known: Collection[str]) -> str | None:
    """Return a sentence about the first word that looks like a flag and is none, or None.

    Args:
        words: Arguments as the user gave them, up to a lone `--`.
        known: All flags of the command, such as `--n-atoms`.
    """
    for word in words:
        if word == "--":
            return None
        name = word.split("=", 1)[0]
        if name.startswith("--") and name not in known:
            meant = name.replace("_", "-")
            like = [meant] if meant in known else get_close_matches(meant, known, 1)
            return f"unknown flag {name}; did you mean {like[0]}?" if like else f"unknown flag {name}."
    return None


class CommandParser(argparse.ArgumentParser):
    """`ArgumentParser` without abbreviations of flags, which says what an unknown flag may have meant."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.flags: set[str] = set()
        self._has_commands = False
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def add_argument(self, *names: Any, **kwargs: Any) -> argparse.Action:
        """Add an argument as every parser does."""
        action = super().add_argument(*names, **kwargs)
        self.flags.update(action.option_strings)
        return action

    def add_mutually_exclusive_group(self, **kwargs: Any) -> Any:
        """Add a group as every parser does; its flags are known too."""
        group = super().add_mutually_exclusive_group(**kwargs)
        add = group.add_argument

        def add_argument(*names: Any, **arguments: Any) -> argparse.Action:
            action = add(*names, **arguments)
            self.flags.update(action.option_strings)
            return action

        group.add_argument = add_argument  # type: ignore[method-assign]
        return group

    def add_subparsers(self, **kwargs: Any) -> Any:
        """Add commands as every parser does; each checks its own flags."""
        self._has_commands = True
        return super().add_subparsers(**kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as every parser does, but name an unknown flag before anything that is missing."""
        given = list(sys.argv[1:] if args is None else args)
        if not self._has_commands:
            name_flags(self.flags)
            problem = unknown_flag(given, self.flags)
            if problem:
                self.error(problem)
        return super().parse_known_args(given, namespace)
