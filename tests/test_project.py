"""The repository: what must be there, and imports that point one way."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from example_files import EACH_EXAMPLE, EXAMPLES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cloud_hf"
REMOTE = (
    "errors", "debye", "einstein", "phonon_dos", "tokenization_scope", "chemistry_tables", "configuration_cloud",
    "saving_cloud", "pretrained_cloud", "embeddings_cloud", "encoder_cloud", "heads_cloud", "heads_phonon",
    "modeling_cloud", "modeling_properties", "conformal", "quantities_cloud", "pipeline_cloud",
)  # fmt: skip
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz"}


@pytest.mark.parametrize(
    "name",
    [
        "Makefile", "LICENSE", "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "model_card.md",
        "docs/architecture.md", "docs/architecture.png", ".pre-commit-config.yaml", "setup.cfg",
        "pyproject.toml", ".ci/run", "cloud_hf/py.typed", "tokenizer/vocab.txt", "tokenizer/tokenizer_config.json",
        "tokenizer/fast/tokenizer.json",
    ],
)  # fmt: skip
def test_a_file_that_must_be_there(name: str) -> None:
    path = ROOT / name
    assert path.is_file()
    assert path.stat().st_size > (0 if name.endswith("py.typed") else 9) or name.endswith("py.typed")


@pytest.mark.parametrize("name", ["cloud_hf", "tokenizer", "scripts", "tests", "examples"])
def test_a_folder_that_must_be_there(name: str) -> None:
    assert (ROOT / name).is_dir()


def test_ci_runs_make_test_and_then_the_browser() -> None:
    path = ROOT / ".ci" / "run"
    assert path.stat().st_mode & 0o111
    lines = [line.strip() for line in path.read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if line.startswith("make")] == ["make test", "make test-app"]


def test_the_makefile_pins_torch_and_has_the_targets() -> None:
    text = (ROOT / "Makefile").read_text()
    assert re.search(r"^TORCH \?= torch==\d+\.\d+\.\d+$", text, re.MULTILINE)
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    assert {"demo", "test", "test-long", "test-lowest", "test-python", "fuzz", "test-app"} <= targets


def test_the_demo_needs_no_tools_of_developers() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--editable ." in done.stdout
    assert "[dev]" not in done.stdout


def test_the_architecture_page_names_rooms_and_files_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)+[\w.]*|\w+\.(?:py|toml))`", text)) - {"studies/NAME/study.py"}
    assert len(named) > 30
    assert [name for name in named if not ((PACKAGE / name).exists() or (ROOT / name).exists())] == []
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    names = {name.strip().split(".")[1] for layer in layers for name in layer.split("|")}
    assert rooms == {name for name in names if (PACKAGE / name).is_dir()}
    assert {room for room in rooms if f"{room}/" not in text} <= {"baselines", "metrics"}


def test_setup_cfg_asks_for_ranges_and_ships_the_weights() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    torch = next(line for line in parser["options"]["install_requires"].splitlines() if line.startswith("torch"))
    assert ">=" in torch
    assert "==" not in torch
    assert "cloud-hf = cloud_hf.cli.main:main" in parser["options.entry_points"]["console_scripts"]
    assert {"models/vocab.txt", "py.typed"} <= set(re.split(r"[,\s]+", parser["options.package_data"]["cloud_hf"]))
    assert "weights" in parser["options.package_data"]["cloud_hf"]


def test_the_licence_is_mit() -> None:
    assert "MIT License" in (ROOT / "LICENSE").read_text()


def test_the_versions_agree() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    version = parser["metadata"]["version"]
    assert version in (ROOT / "CHANGELOG.md").read_text()
    citation = re.search(r"^version:\s*\"?([\w.]+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert citation is None or citation.group(1) == version


def test_modules_of_tests_outside_packages_have_different_names() -> None:
    """Else pytest takes the second for the first one, and collects neither."""
    tests = ROOT / "tests"
    modules = [path for path in tests.rglob("test_*.py") if ".cache" not in path.parts]
    names = [path.name for path in modules if not (path.parent / "__init__.py").is_file()]
    assert {name for name in names if names.count(name) > 1} == set()


def tracked() -> list[Path]:
    """Files that git knows; skips where this is no git checkout."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout, so nothing says which files belong to the project")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_no_pickles_are_tracked() -> None:
    assert [path for path in tracked() if path.suffix in PICKLES] == []


def test_no_large_file_is_tracked() -> None:
    assert [path for path in tracked() if path.is_file() and path.stat().st_size > 20_000_000] == []


class TestExamples:
    def test_there_are_enough_of_different_symmetry(self) -> None:
        groups = {re.search(r"_space_group_IT_number\s+(\d+)", path.read_text()).group(1) for path in EXAMPLES}  # type: ignore[union-attr]
        assert len(EXAMPLES) >= 8
        assert len(groups) >= 6

    @pytest.mark.parametrize("path", EACH_EXAMPLE)
    def test_it_has_the_space_group_and_formula_that_it_declares(self, path: Path) -> None:
        from pymatgen.core import Composition

        from cloud_hf import ScopeEncoder

        text = path.read_text(encoding="utf-8")
        declared = re.search(r"_space_group_IT_number\s+(\d+)", text)
        formula = re.search(r"_chemical_formula_sum\s+'([^']+)'", text)
        assert declared
        assert formula
        found = ScopeEncoder("composition", canonical=False).describe(path)
        assert found.space_group == int(declared.group(1))
        assert found.formula == Composition(formula.group(1)).reduced_formula

    def test_each_is_in_the_list(self) -> None:
        listed = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
        assert [path.name for path in EXAMPLES if f"`{path.name}`" not in listed] == []


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Level and full dotted name of each import outside functions."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, ".".join(filter(None, (node.module, alias.name)))) for alias in node.names)


@pytest.mark.parametrize("name", REMOTE)
def test_remote_code_imports_its_neighbours_only_relatively(name: str) -> None:
    """The Hub ships these files flat, without the package; transformers follows `from .x import y` only."""
    for level, imported in imports(PACKAGE / "models" / f"{name}.py"):
        assert not imported.startswith("cloud_hf"), imported
        if level:
            assert level == 1
            assert imported.split(".")[0] in REMOTE
            assert "." in imported


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_documented(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_the_tokenizer_folder_holds_the_package_s_own_code() -> None:
    for name in ("tokenization_scope.py", "saving_cloud.py", "errors.py"):
        ours, copied = (
            ast.dump(ast.parse((folder / name).read_text())) for folder in (PACKAGE / "models", ROOT / "tokenizer")
        )
        assert copied == ours
    assert (ROOT / "tokenizer" / "vocab.txt").read_text() == (PACKAGE / "models" / "vocab.txt").read_text()
