"""Throw many inputs at the encoder and the strings' readers; each must give a string or a typed error, in time.

    python tests/fuzz/fuzz_encoder.py --inputs 100000 --seed 0

The inputs run through `encode_batch` in worker processes, so that a crash or a hang is recorded with its input.
A finding is an exception that is no `CloudError`, a worker that dies, an input above the time limit, a string of the
encoder that the package itself does not read, or a file of a crystal that does not have the crystal's string. Exit
status 1 if there is any.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import itertools
import json
import os
import pickle
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from fuzz_inputs import File, Truth, cifs, kind_of, make, poscars, rng_of

import cloud_hf.scope
from cloud_hf import ScopeEncoder, ScopeTokenizer, grammar_of
from cloud_hf.errors import CloudError, EncodingTimeoutError, WorkerDiedError
from cloud_hf.parallel.batch import encode_batch
from crystals import random_crystals

MEMORY = 4 * 2**30
"""Bytes that a worker may take beside what it has at the start; more is a finding (`MemoryError`)."""


@dataclass(frozen=True)
class Verdict:
    """What became of one input: `encoded`, `refused` with the error's class, or `finding` with the traceback."""

    outcome: str
    kind: str
    what: str = ""
    details: str = ""


def encoders() -> list[ScopeEncoder]:
    """Return an encoder for every setting that the constructor takes."""
    parameters = inspect.signature(ScopeEncoder).parameters
    symmetries = ["spglib", "moyopy"] if "symmetry" in parameters else [None]
    found = []
    for grammar, canonical, symmetry in itertools.product(("sites", "composition", "full"), (True, False), symmetries):
        settings: dict[str, Any] = {"grammar": grammar, "canonical": canonical, "max_atoms": 250}
        with contextlib.suppress(CloudError, ImportError):
            found.append(ScopeEncoder(**settings, **({} if symmetry is None else {"symmetry": symmetry})))
    return found


class Target:
    """What `encode_batch` runs: the number of an input in, a verdict out."""

    def __init__(self, seed: int, scratch: Path) -> None:
        self.seed, self.scratch = seed, scratch
        self.encoders = encoders()
        self.tokenizer = ScopeTokenizer()
        self.folder: Path | None = None

    def describe(self, index: int) -> Any:
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(dir=self.scratch))
            limit_memory()
        warnings.simplefilter("ignore")
        kind, value = make(self.seed, index)
        # the numbers that choose the encoder are others than those that made the input
        rng = rng_of(self.seed + 1, -index)
        try:
            if kind == "string":
                self.read(value)
            else:
                self.encode(value, rng)
        except CloudError as error:
            if not str(error).strip():
                return Verdict("finding", kind, "a message that says nothing", type(error).__name__)
            return Verdict("refused", kind, type(error).__name__)
        except (Exception, SystemExit) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "cloud_hf" in frame.filename]
            where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
            what = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno} called from {where}"
            return Verdict("finding", kind, what, traceback.format_exc())
        return Verdict("encoded", kind)

    def read(self, text: str) -> None:
        """Tokenizer, and parser where there is one, must take or refuse the string; what they take is read again."""
        refusals: list[CloudError] = []
        parse = getattr(cloud_hf.scope, "parse", None)
        for reader in filter(None, (grammar_of, parse, self.tokenizer)):
            try:
                result = reader(text)
                if reader is parse:
                    parse(str(result))
            except CloudError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]

    def encode(self, value: Any, rng: random.Random) -> None:
        if isinstance(value, Truth):
            self.compare(value)
            return
        if isinstance(value, File):
            assert self.folder is not None
            path = self.folder / value.name
            path.write_bytes(value.data)
            value = path
        encoder = rng.choice(self.encoders)
        encoded = encoder.describe(value)
        found = grammar_of(encoded.scope)
        assert found == encoder.grammar, f"{encoder!r} wrote a string of {found}: {encoded.scope}"
        assert encoded.n_atoms > 0, f"{encoder!r}: n_atoms {encoded.n_atoms}"
        assert 1 <= encoded.space_group <= 230, encoded.space_group
        if hasattr(cloud_hf.scope, "parse"):
            assert str(cloud_hf.scope.parse(encoded.scope)) == encoded.scope, encoded.scope

    def compare(self, value: Truth) -> None:
        """A file that a program writes of a crystal has the string of the crystal; a refusal is a finding too."""
        assert self.folder is not None
        encoder = ScopeEncoder("sites" if value.structure.is_ordered else "composition")
        path = random_crystals.written(value.writer, value.structure, self.folder)
        expected = encoder.encode(value.structure)
        try:
            found = encoder.encode(path)
        except CloudError as error:
            found = f"{type(error).__name__}: {error}"
        finally:
            text = path.read_text(encoding="utf-8")
            path.unlink()
        assert found == expected, f"{value.writer}: {found} in place of {expected}\n{text}"


def limit_memory() -> None:
    """Turn a runaway allocation into a `MemoryError`, where the system can."""
    if sys.platform == "linux":
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def indices(inputs: int, seconds: float | None) -> Iterator[int]:
    """Count the inputs until there are enough of them or the time is over."""
    until = None if seconds is None else time.monotonic() + seconds
    return itertools.takewhile(lambda _: until is None or time.monotonic() < until, iter(range(inputs)))


def run(
    inputs: int, seed: int, seconds: float | None = None, processes: int = 1, limit: float = 30.0
) -> tuple[Counter[str], list[tuple[int, Verdict]]]:
    """Run the inputs; return how often each outcome was, and the findings with the number of their input."""
    cifs(), poscars()  # made once, shared with the workers
    counts: Counter[str] = Counter()
    findings = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        rows = encode_batch(Target(seed, Path(scratch)), indices(inputs, seconds), processes, limit)
        for index, row in enumerate(rows):
            if isinstance(row, Verdict):
                verdict = row
            else:
                what = {WorkerDiedError: "crash", EncodingTimeoutError: f"above {limit:g} s"}.get(type(row), "unread")
                verdict = Verdict("finding", kind_of(index), what, str(row))
            counts[f"refused {verdict.what}" if verdict.outcome == "refused" else verdict.outcome] += 1
            counts[f"{verdict.kind} {verdict.outcome}"] += 1
            if verdict.outcome == "finding":
                findings.append((index, verdict))
    return counts, findings


def save(findings: list[tuple[int, Verdict]], seed: int, folder: Path) -> None:
    """Write each input with its traceback and the line that runs it again."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, verdict in findings:
        again = f"python tests/fuzz/fuzz_encoder.py --seed {seed} --only {index}"
        (folder / f"{index}.txt").write_text(f"{verdict.what}\n{again}\n\n{verdict.details}\n", encoding="utf-8")
        value = make(seed, index)[1]
        if isinstance(value, File):
            (folder / f"{index}-{value.name}").write_bytes(value.data)
        elif isinstance(value, str):
            (folder / f"{index}.json").write_text(json.dumps(value), encoding="utf-8")
        else:
            (folder / f"{index}.pickle").write_bytes(pickle.dumps(value))


def summary(counts: Counter[str]) -> str:
    """Return the line `N inputs: A encoded, B refused (by error class), C findings`."""
    refused = {name.split()[1]: n for name, n in counts.most_common() if name.startswith("refused ")}
    total = counts["encoded"] + sum(refused.values()) + counts["finding"]
    classes = ", ".join(f"{n} {name}" for name, n in refused.items())
    return (
        f"{total} inputs: {counts['encoded']} encoded, {sum(refused.values())} refused ({classes}), "
        f"{counts['finding']} findings"
    )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="stop after this time even if there are inputs left")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--limit", type=float, default=30.0, help="s; an input that takes longer is a finding")
    parser.add_argument("--only", type=int, help="run one input in this process and show what becomes of it")
    parser.add_argument("--findings", type=Path, help="folder for the findings (default: a new temporary one)")
    options = parser.parse_args()
    if options.only is not None:
        print(repr(make(options.seed, options.only))[:2000], flush=True)
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
            verdict = Target(options.seed, Path(scratch)).describe(options.only)
        print(f"{verdict.outcome} {verdict.what}\n{verdict.details}")
        return int(verdict.outcome == "finding")
    counts, findings = run(options.inputs, options.seed, options.seconds, options.processes, options.limit)
    for (kind, what), n in Counter((verdict.kind, verdict.what) for _, verdict in findings).most_common():
        first = next(index for index, verdict in findings if (verdict.kind, verdict.what) == (kind, what))
        print(f"finding ({n}x, {kind}): {what}\n    again: {sys.argv[0]} --seed {options.seed} --only {first}")
    if findings:
        folder = options.findings or Path(tempfile.mkdtemp(prefix="fuzz-findings-"))
        save(findings, options.seed, folder)
        print(f"inputs and tracebacks: {folder}")
    print(summary(counts))
    return int(bool(findings))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
