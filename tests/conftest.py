"""What the tests share: where things lie, tiny models, crystals that hang, and fresh Python processes."""

from __future__ import annotations

import gc
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from example_files import EXAMPLES, LIKE_OTHERS
from waiting import Hang

if TYPE_CHECKING:
    from transformers import BertForMaskedLM

    from cloud_hf import CloudConfig, ScopeTokenizer

ROOT = Path(__file__).resolve().parents[1]

# how long an example takes says how busy the machine is
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

#: Put first in a script, this makes `cloud_hf` impossible to import there, although it is installed.
WITHOUT_PACKAGE = '''
import sys


class _Absent:
    """Finder that behaves as if the package were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "cloud_hf":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, _Absent())
'''


@pytest.fixture(autouse=True, scope="module")
def _imported_is_no_garbage() -> None:
    """Take what is imported out of the sight of later garbage collections.

    Accelerate ends every training with a full one, and looking through the objects of torch and transformers takes it
    longer than a tiny training does.
    """
    if len(gc.get_objects(generation=2)) > 100_000:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def examples() -> list[Path]:
    """The example crystals, CIF files, without those of `LIKE_OTHERS`."""
    return [path for path in EXAMPLES if path.stem not in LIKE_OTHERS]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the reference data that is not part of the repository; skips where it is absent."""
    folder = Path(os.environ.get("CLOUD_SHARED", "../shared"))
    folder = folder if folder.is_absolute() else ROOT / folder
    if not (folder / "published").is_dir():
        pytest.skip(f"reference data is absent: no folder {folder} (CLOUD_SHARED says where it is)")
    return folder


@pytest.fixture
def hang(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Hang:
    """What a crystal that hangs calls; see `Hang`. Workers get it by fork or by pickle."""
    from cloud_hf.parallel import pool

    hang, limit = Hang(tmp_path_factory.mktemp("hangs")), pool.Pool._limit
    monkeypatch.setattr(pool, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(
        pool.Pool, "_limit", lambda self, worker: 1e-9 if hang.hangs(worker.process.pid) else limit(self, worker)
    )
    return hang


@pytest.fixture
def hanging_parser(hang: Hang, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that does not come back from content with the word HANGS, in workers that inherit it."""
    from cloud_hf.crystals import frames, opening
    from cloud_hf.parallel import pool

    parse, parse_frame = opening._cell_of, frames._ase_read

    def parsed(data: bytes, *arguments: Any) -> Any:
        return hang() if b"HANGS" in data else parse(data, *arguments)

    def read() -> Any:
        original = parse_frame()
        return lambda file, **more: hang() if b"HANGS" in file.getvalue().encode() else original(file, **more)

    monkeypatch.setattr(opening, "_cell_of", parsed)
    monkeypatch.setattr(frames, "_ase_read", read)
    monkeypatch.setattr(pool, "start_method", lambda _: multiprocessing.get_context("fork"))


@pytest.fixture
def hanging_table(hanging_parser: None, tmp_path: Path) -> Path:
    """A table with a CIF in each row, that of copper and that of silicon, whose parser hangs."""
    import pandas as pd

    texts = [(ROOT / "examples" / f"{name}.cif").read_text() for name in ("Cu", "Si")]
    path = tmp_path / "hanging.csv"
    pd.DataFrame({"id": ["good", "bad"], "cif": [texts[0], f"{texts[1]}# HANGS\n"], "gap": [0.0, 1.1]}).to_csv(path)
    return path


@pytest.fixture
def verbosity() -> Iterator[None]:
    """The command quietens transformers; what follows this test can listen to it again."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    yield
    logging.set_verbosity(before)
    if bars:
        logging.enable_progress_bar()


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few trees in the baseline: tests of what stands around it need no more."""
    from cloud_hf.baselines import trees

    monkeypatch.setattr(trees, "ROUNDS", (60, 20))
    monkeypatch.setattr(trees, "EXTRA_TREES", (40, 10))


@pytest.fixture(scope="session")
def wyckoff_multiplicities() -> dict[str, dict[str, int]]:
    """Letter to multiplicity of each space group, from pymatgen's file: its module reads larger ones for seconds."""
    from monty.serialization import loadfn

    spec = importlib.util.find_spec("pymatgen.analysis.prototypes")
    assert spec is not None
    assert spec.origin is not None
    (path,) = Path(spec.origin).parent.glob("wyckoff-position-multiplicities.json*")
    tables: dict[str, dict[str, int]] = loadfn(path)
    return tables


@pytest.fixture(scope="session")
def tokenizer() -> ScopeTokenizer:
    """The tokenizer with the vocabulary inside the package; tests must not change it."""
    from cloud_hf import ScopeTokenizer

    return ScopeTokenizer()


@pytest.fixture(scope="session")
def scopes() -> list[str]:
    """Strings in the grammar `composition`, of different lengths."""
    return [
        "1 0 0 | 2i | Cu 1.0",
        "0 7 a O D D a D O D b O D D c D D O d O O O e F B F h B B B 1 Z Z Z | 8a | Si 1.0",
        "1 2 a E C C n O O O 0 | 3a 3b 6c 18f | Ba 0.1 Ti 0.1 B 0.2 O 0.6",
        "1 3 b O O O g O O O c D D O 0 | 4g 2a 8j 2c | Sc 0.3 B 0.2 Rh 0.5",
    ]


@pytest.fixture(scope="session")
def make_config() -> Callable[..., CloudConfig]:
    """Return a function that makes the configuration of a tiny model; keywords override its fields."""
    from cloud_hf import CloudConfig

    tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}

    def make(**fields: Any) -> CloudConfig:
        return CloudConfig(**(tiny | fields))

    return make


@pytest.fixture(scope="session")
def make_published() -> Callable[..., BertForMaskedLM]:
    """Return a function that makes a random `BertForMaskedLM` of the published shape, narrower unless told otherwise.

    As in the published checkpoint there are 30,522 words and 64 positions, the padding row is [CLS] and zero, and no
    other weight is.
    """
    import torch
    from transformers import BertConfig, BertForMaskedLM

    def make(heads: int = 2, layers: int = 2, seed: int = 0) -> BertForMaskedLM:
        config = BertConfig(
            vocab_size=30_522, hidden_size=64 * heads, num_attention_heads=heads, num_hidden_layers=layers,
            intermediate_size=256 * heads, max_position_embeddings=64, type_vocab_size=1,
        )  # fmt: skip
        model = BertForMaskedLM(config).eval()
        chance = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.05 * torch.randn(weight.shape, generator=chance)
            model.bert.embeddings.word_embeddings.weight[0] = 0.0
        return model

    return make


@pytest.fixture(scope="session")
def published(make_published: Callable[..., BertForMaskedLM]) -> BertForMaskedLM:
    """A narrow checkpoint of the published shape; tests must not change it."""
    return make_published()


@pytest.fixture(scope="session")
def published_folder(published: BertForMaskedLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as the folder on the Hub: config, safetensors, 463 words in `vocab.txt` and 101 added ones."""
    folder = tmp_path_factory.mktemp("published") / "ckpt"
    published.save_pretrained(folder)
    words = (ROOT / "cloud_hf" / "models" / "vocab.txt").read_text(encoding="utf-8").split()
    (folder / "vocab.txt").write_text("\n".join(words[:463]) + "\n", encoding="utf-8")
    added = {word: index for index, word in enumerate(words[:564]) if index >= 463}
    (folder / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def run_python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return a function that runs a script in a fresh process, offline and with empty caches.

    The script is called as `run(script, *arguments, package=True, variables={})`; what it prints last must be JSON,
    which is returned. With `package=False` it cannot import `cloud_hf`; `variables` are added to its environment.
    """

    def run(script: str, *arguments: Any, package: bool = True, variables: dict[str, str] | None = None) -> Any:
        folder = tmp_path_factory.mktemp("process")
        (folder / "script.py").write_text(("" if package else WITHOUT_PACKAGE) + script, encoding="utf-8")
        environment = (
            os.environ
            | {
                "HF_HOME": str(folder / "hf"),
                "HF_MODULES_CACHE": str(folder / "modules"),
                "HF_HUB_OFFLINE": "1",
                "OMP_NUM_THREADS": "1",
                "PYTHONWARNINGS": "ignore",
            }
            | (variables or {})
        )
        done = subprocess.run(
            [sys.executable, str(folder / "script.py"), *map(str, arguments)],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def several_heads(make_config: Callable[..., CloudConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like `cloud_hf/weights` with tiny models: four heads in two checkpoints, intervals and likelihoods.

    The training rows of `band_gap` held Na, Mg, Cl and O only.
    """
    import numpy as np
    import torch

    from cloud_hf import CloudForDebye, CloudForMaskedLM, CloudForPropertyRegression, ScopeTokenizer
    from cloud_hf.inference.calibration import LabelledPredictions, fit_target
    from cloud_hf.inference.likelihood import LikelihoodSettings
    from cloud_hf.models.conformal import Calibration, head_fingerprint
    from cloud_hf.models.debye import heat_capacity

    weights = tmp_path_factory.mktemp("several") / "weights"
    chance = np.random.default_rng(0)
    strings = [f"1 0 0 | {e} {1 + n}a O 2i" for e in ("Na", "Mg", "Cl", "Fe") for n in range(40)]
    values = chance.uniform(1.0, 3.0, len(strings))
    made = LabelledPredictions(strings, values, values + 0.3 * chance.standard_normal(len(strings)))
    theta = np.exp(chance.normal(6.0, 0.3, len(strings)))
    warm, truth = (heat_capacity(one, 300.0).numpy() for one in (theta, theta * np.exp(0.1 * (made.labels - values))))
    heat = LabelledPredictions(strings, warm, truth, np.full(len(strings), 300.0))
    known = {"Na": 9, "Mg": 9, "Cl": 9, "O": 9}
    targets = {
        "band_gap": fit_target(made, "eV", elements=known),
        "bulk_modulus": fit_target(made, "GPa", ("log",)),
        "heat_capacity": fit_target(heat, "J/(mol atom K)", ("debye",), elements=known | {"C": 1}),
    }
    heads = {
        "target_names": ["zero_point", "band_gap", "bulk_modulus"], "target_units": ["eV", "eV", "GPa"],
        "target_transforms": ["standardise", "standardise", "log"],
        "target_mean": [0.0, 1.0, 4.0], "target_scale": [1.0, 0.5, 0.3],
    }  # fmt: skip
    for name, kind, fields in (
        ("heat_capacity", CloudForDebye, {}),
        ("crystal_properties", CloudForPropertyRegression, heads),
        ("likelihood", CloudForMaskedLM, {}),
    ):
        torch.manual_seed(3)
        model: Any = kind(make_config(initializer_range=0.2, grammar="sites", canonical=True, **fields))
        model.save_pretrained(weights / name)
        ScopeTokenizer().save_pretrained(weights / name)
        if name == "likelihood":
            LikelihoodSettings(threshold=-6.0, n_rows=100).save(weights / name)
            continue
        mine = {head: target for head, target in targets.items() if (head == "heat_capacity") == (not fields)}
        Calibration(mine, {"float32": head_fingerprint(model)}).save(weights / name)
    return weights
