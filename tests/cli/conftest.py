"""The command in this process, crystals good and bad, and other people's checkpoints."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import transformers.utils.logging  # noqa: F401  (it holds the stderr of its first import, which must be no test's own)

from example_files import learn_symmetry

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def _known_symmetry() -> None:
    learn_symmetry()


class Finished(NamedTuple):
    """What a run of the command left."""

    status: int
    out: str
    err: str


@pytest.fixture
def cloud(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Run `cloud-hf` in this process; an exception that would be a traceback fails the test."""
    from cloud_hf.cli.main import main

    def run(*argv: object) -> Finished:
        capsys.readouterr()
        try:
            status = main([str(word) for word in argv])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return Finished(status, *capsys.readouterr())

    return run


def cif_text(cell: Sequence[float], sites: Sequence[tuple[str, float, float, float, float]]) -> str:
    """A P1 CIF: a, b, c (Å), alpha, beta, gamma (degrees); element, x, y, z, occupancy."""
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_test", *(f"_cell_{name} {value}" for name, value in zip(names, cell, strict=True))]
    lines += ["loop_", "_symmetry_equiv_pos_as_xyz", "'x, y, z'", "loop_"]
    lines += [f"_atom_site_{name}" for name in ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")]
    lines += [f"{e}{number} {e} {x} {y} {z} {occupancy}" for number, (e, x, y, z, occupancy) in enumerate(sites)]
    return "\n".join(lines) + "\n"


CUBE = (4.0, 4.0, 4.0, 90, 90, 90)


def _large_poscar() -> str:
    """Simple cubic polonium, 17 x 17 x 18 = 5,202 atoms."""
    points = [f"{x / 17} {y / 17} {z / 18}" for x in range(17) for y in range(17) for z in range(18)]
    return f"Po\n1.0\n57.0 0 0\n0 57.0 0\n0 0 60.3\nPo\n{len(points)}\nDirect\n" + "\n".join(points) + "\n"


def bad_texts() -> dict[str, tuple[str, str]]:
    """File name and text of every kind of file that cannot be predicted."""
    sodium = ("Na", 0.0, 0.0, 0.0, 1.0)
    return {
        "not a CIF": ("prose.cif", "Dear editor, please find enclosed our crystal.\n"),
        "bytes": ("bytes.cif", "\x00\x01\x02\x03" * 50),
        "empty": ("empty.cif", ""),
        "blank": ("blank.cif", "  \n\n"),
        "no atoms": ("no_atoms.cif", cif_text(CUBE, []).split("loop_\n_atom_site")[0]),
        "atom loop without rows": ("no_rows.cif", cif_text(CUBE, [])),
        "overlapping atoms": ("overlap.cif", cif_text(CUBE, [sodium, ("Cl", 0.01, 0.0, 0.0, 1.0)])),
        "zero volume": ("flat.cif", cif_text((4.0, 4.0, 0.0, 90, 90, 90), [sodium])),
        "impossible angles": ("angles.cif", cif_text((4.0, 4.0, 4.0, 10, 10, 170), [sodium])),
        "dummy element": ("dummy.cif", cif_text(CUBE, [sodium, ("Xx", 0.5, 0.5, 0.5, 1.0)])),
        "coordinates that are no numbers": ("nan.vasp", "Na\n1\n4 0 0\n0 4 0\n0 0 4\nNa\n1\nDirect\nnan nan nan\n"),
        "5,000 atoms": ("large.vasp", _large_poscar()),
        "truncated POSCAR": ("POSCAR", "Na\n1\n4 0 0\n0 4 0\n"),
        "unknown format": ("crystal.xyzzy", "4 0 0\n"),
    }


@pytest.fixture
def bad_files(tmp_path: Path) -> dict[str, Path]:
    """The files of `bad_texts`, and one that does not exist."""
    folder = tmp_path / "bad"
    folder.mkdir()
    paths = {"missing": folder / "missing.cif"}
    for kind, (name, text) in bad_texts().items():
        paths[kind] = folder / name
        paths[kind].write_text(text, encoding="utf-8")
    return paths


@pytest.fixture
def alloy(tmp_path: Path) -> Path:
    """A crystal with a partially occupied site."""
    path = tmp_path / "alloy.cif"
    path.write_text(cif_text((3.6, 3.6, 3.6, 90, 90, 90), [("Cu", 0, 0, 0, 0.75), ("Au", 0, 0, 0, 0.25)]))
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the bundled checkpoint that a test may damage."""
    from cloud_hf import bundled_model

    return shutil.copytree(bundled_model(), tmp_path / "checkpoint")


@pytest.fixture(scope="session")
def composition_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Debye checkpoint that reads compositions."""
    from cloud_hf import CloudConfig, CloudForDebye, ScopeTokenizer

    folder = tmp_path_factory.mktemp("composition") / "composition"
    config = CloudConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    CloudForDebye(config).save_pretrained(folder)
    ScopeTokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of another model type."""
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("bert") / "bert"
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-trained encoder without a property head."""
    from cloud_hf import CloudConfig, CloudForMaskedLM, ScopeTokenizer

    folder = tmp_path_factory.mktemp("encoder") / "encoder"
    config = CloudConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    CloudForMaskedLM(config).save_pretrained(folder)
    ScopeTokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def gap_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained regression checkpoint with two targets."""
    import torch

    from cloud_hf import CloudConfig, CloudForPropertyRegression, ScopeTokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gap") / "gap"
    config = CloudConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        target_names=["band_gap", "refractive_index"], target_units=["eV", "1"],
        target_mean=[2.0, 1.5], target_scale=[1.0, 0.1],
    )  # fmt: skip
    CloudForPropertyRegression(config).save_pretrained(folder)
    ScopeTokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def volume_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained regression checkpoint whose first two targets are of whole cells, learned per atom."""
    import torch

    from cloud_hf import CloudConfig, CloudForPropertyRegression, ScopeTokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("volume") / "volume"
    config = CloudConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        target_names=["volume", "energy", "band_gap"], target_units=["Å^3", "eV", "eV"],
        target_transforms=["log_per_atom", "per_atom", "standardise"],
        target_mean=[3.0, -4.0, 2.0], target_scale=[1.0, 1.0, 1.0],
    )  # fmt: skip
    CloudForPropertyRegression(config).save_pretrained(folder)
    ScopeTokenizer().save_pretrained(folder)
    return folder
