"""`cloud-hf study NAME`: the name and flags of a study to its `run`."""

from collections.abc import Sequence
from importlib import import_module

from cloud_hf.cli.output import file_errors
from cloud_hf.errors import CloudError
from cloud_hf.studies import STUDIES, study_module

__all__ = ["study"]


def study(argv: Sequence[str]) -> int:
    """Run a study, or list them.

    Args:
        argv: The study's name and its flags.

    Raises:
        CloudError: There is no such study, or it cannot run; the message says why.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(_listed())
        return 0
    name = argv[0]
    if name not in STUDIES:
        hyphenated = name.replace("_", "-")
        right = f"it is called {hyphenated!r}" if hyphenated in STUDIES else f"there are: {', '.join(STUDIES)}"
        raise CloudError(f"There is no study {name!r}; {right}.")
    from transformers.utils import logging

    from cloud_hf.cli.recipes import parse_flags

    module = import_module(study_module(name))
    logging.set_verbosity_error()  # every training would say the same
    with file_errors():
        (arguments,) = parse_flags(f"study {name}", (module.Arguments,), argv[1:])
        report = module.run(arguments)
    print(f"{report}: the report, beside results.json and the pictures")
    return 0


def _listed() -> str:
    width = max(map(len, STUDIES))
    lines = [f"  {name:<{width}}  {text}" for name, text in STUDIES.items()]
    head = ["usage: cloud-hf study NAME --data ... --out DIR", ""]
    head += ["Studies that write results.json, a report and pictures, and go on where they were stopped:", ""]
    return "\n".join([*head, *lines, "", "`cloud-hf study NAME --help` lists the flags of one."])
