"""The wheel: what is in it, and that it works without the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from pathlib import Path
import cloud_hf
assert Path(cloud_hf.__file__).is_relative_to(sys.prefix), cloud_hf.__file__
from cloud_hf.cli.main import main
example = next(Path(cloud_hf.__file__).parent.glob("app/examples/*.cif"))
status = main(["predict", str(example), "--output", "out.csv", "--plot", "cv.png"])
sys.exit(status)
"""


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git would hand out, as a build in the repository would take what an earlier one left there."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False)
    if names.returncode:
        pytest.skip("not a git checkout, so nothing says which files belong to the project")
    for name in filter(None, names.stdout.split("\0")):
        if (root / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((root / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (path,) = out.glob("*.whl")
    return path


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cloud_hf"}
    assert not any(part in ("tests", "scripts", "docs", "__pycache__") for name in names for part in name.split("/"))
    for wanted in (
        "py.typed",
        "models/vocab.txt",
        "app/page.css",
        "app/words.html.j2",
        "app/examples/NaCl.cif",
        "screening/known_crystals.safetensors",
    ):
        assert f"cloud_hf/{wanted}" in names
    assert any(name.startswith("cloud_hf/weights/") and name.endswith("model.safetensors") for name in names)
    assert "Project-URL: " in metadata


def test_it_predicts_and_plots_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    """The libraries are those of this environment, which an offline machine cannot install again."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=False)
    purelib = next((folder / "lib").glob("python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    libraries = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (purelib / "zz_libraries.pth").write_text("\n".join(libraries) + "\n", encoding="utf-8")
    away = tmp_path / "elsewhere"
    away.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(folder / "bin" / "python"), "-c", SCRIPT],
        cwd=away, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (away / "out.csv").is_file()
    assert (away / "cv.png").read_bytes().startswith(b"\x89PNG")
