"""A tiny encoder, and tables of real prototypes with labels that can be learned, for the tests of the studies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cloud_hf.models.debye import heat_capacity
from cloud_hf.studies.common import report
from cloud_hf.studies.common.fitting import random_encoder

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
PROTOTYPES: dict[str, tuple[np.ndarray, tuple[tuple[float, ...], ...]]] = {
    "rocksalt": (FCC, ((0, 0, 0), (0.5, 0.5, 0.5))),
    "zincblende": (FCC, ((0, 0, 0), (0.25, 0.25, 0.25))),
    "CsCl": (np.eye(3), ((0, 0, 0), (0.5, 0.5, 0.5))),
}
CATIONS, ANIONS = (3, 11, 19, 37, 12, 20, 38, 56, 30, 48), (9, 17, 35, 53, 8, 16)


@pytest.fixture(autouse=True)
def _as_before(few_trees: None, verbosity: None) -> None:
    """The studies compare with trees, and run as a command; how good trees are is tested elsewhere."""


@pytest.fixture(scope="module", autouse=True)
def _each_picture_once(pytestconfig: pytest.Config) -> Iterator[None]:
    """Render a picture of each name once a module in the quick tests: rendering takes a study of tests longest."""
    if "slow" not in pytestconfig.option.markexpr:
        yield
        return
    rendered: dict[str, bytes] = {}
    render = report.save_figure

    def save(figure: Figure, path: str) -> None:
        name = Path(path).name
        if name in rendered:
            Path(path).write_bytes(rendered[name])
        else:
            render(figure, path)
            rendered[name] = Path(path).read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "save_figure", save)
        yield


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny encoder with random weights that reads `sites`."""
    tiny = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "pooling": "cls_multiplicity"}
    chemistry = {"element_descriptors": True, "site_multiplicity": True, "max_position_embeddings": 128}
    return random_encoder(tmp_path_factory.mktemp("encoder"), **tiny, **chemistry)


@pytest.fixture(scope="session")
def crystals() -> Callable[[int], pd.DataFrame]:
    """Return a function that makes up to 180 different binary crystals of three prototypes.

    Columns `id`, `lattice`, `numbers`, `frac_coords`, and labels made from the atoms: `energy` (eV/atom), `theta` (K),
    `cv` (J/(mol cell K) at 300 K), `prototype`.
    """

    def make(n: int = 60) -> pd.DataFrame:
        rows = []
        for anion in ANIONS:
            for cation in CATIONS:
                for name, (cell, sites) in PROTOTYPES.items():
                    edge = 4.0 + 0.02 * (cation + anion)
                    theta = 150.0 + 3000.0 / (cation + anion) + 20.0 * len(name)
                    rows.append(
                        {
                            "id": f"{name}-{cation}-{anion}",
                            "lattice": (cell * edge).ravel().tolist(),
                            "numbers": [cation, anion],
                            "frac_coords": np.ravel(sites).tolist(),
                            "energy": -0.05 * abs(cation - anion) ** 0.5 - 0.1 * len(name),
                            "theta": theta,
                            "cv": 2 * float(heat_capacity(theta, 300.0)),
                            "prototype": name,
                        }
                    )
        order = np.random.default_rng(0).permutation(len(rows))[:n]
        return pd.DataFrame([rows[index] for index in order])

    return make
