"""A tiny model with a phonon density of states, and a page that is served with it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def spectral(make_config: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model that gives a band gap and a phonon density of states."""
    import torch

    from cloud_hf import CloudForCrystalProperties, ScopeTokenizer

    path = tmp_path_factory.mktemp("spectral") / "model"
    torch.manual_seed(0)
    config = make_config(
        grammar="sites", canonical=True, element_descriptors=True, site_multiplicity=True, pooling="cls_multiplicity",
        target_names=["band_gap"], target_units=["eV"], initializer_range=0.2,
    )  # fmt: skip
    CloudForCrystalProperties(config).save_pretrained(path)
    ScopeTokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def served(spectral: Path) -> Iterator[Any]:
    """The page, on a free port of this machine.

    It ends before the browser, which waits for pipes that the page's worker processes hold open.
    """
    yield from _served(str(spectral))


@pytest.fixture(scope="module")
def served_bundled() -> Iterator[Any]:
    """The page with the model and the known crystals that ship."""
    yield from _served("default")


@pytest.fixture
def free_port() -> int:
    """A port of this machine on which nothing listens."""
    return _free_port()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _served(model: str) -> Iterator[Any]:
    """Serve with readers that may take their time, as a busy machine does."""
    from cloud_hf.app.reading import Readers
    from cloud_hf.app.server import serve

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloud_hf.app.server.Readers", partial(Readers, timeout=600.0))
        page = serve(port=_free_port(), model=model)
    yield page
    page.close()
