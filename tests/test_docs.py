"""README and model card say what the program does: numbers are those of result files, shown output is real."""

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def write_docs() -> ModuleType:
    sys.path.insert(0, str(ROOT / "scripts"))  # as when the script is run
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "scripts" / "write_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documents() -> dict[str, str]:
    names = ("README.md", "model_card.md", "docs/scope.md", "docs/guides/predict.md", "docs/guides/speed.md")
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names}


def block(name: str) -> str:
    found = [
        match.group(1).strip()
        for text in documents().values()
        for match in re.finditer(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    ]
    assert len(found) == 1, f"block {name} stands {len(found)} times"
    return found[0]


RESULTS = [
    "heads",
    "errors",
    "intervals",
    "likelihood",
    "thermal",
    "few_labels",
    "spectrum",
    "members",
    "joint_ablation",
    "prediction_speed",
    "benchmarks",
    "pretraining",
    "screening",
    "training",
    "corpus",
]
RESULTS += [f"scope_{part}" for part in ("summary", "invariance", "distinctness", "irreducible", "speed")]


@pytest.mark.parametrize("name", RESULTS)
def test_numbers_are_those_of_the_result_files(write_docs: ModuleType, name: str) -> None:
    assert block(name) == write_docs.BLOCKS[name]()


@pytest.mark.parametrize("name", ["example", "demo", "elements"])
def test_shown_output_is_what_the_program_prints(write_docs: ModuleType, name: str) -> None:
    number = r"-?\d+\.\d+"
    shown, printed = block(name), write_docs.BLOCKS[name]()
    # spacing and the last digit may differ with the machine's arithmetic, words and values may not
    assert re.sub(number, "#", shown).split() == re.sub(number, "#", printed).split()
    values = [float(value) for value in re.findall(number, printed)]
    assert [float(value) for value in re.findall(number, shown)] == pytest.approx(values, rel=0.01, abs=0.15)


def test_the_first_screen_has_both_commands_and_python() -> None:
    screen = documents()["README.md"].splitlines()[:40]
    assert sum(line.startswith("make ") for line in screen) == 2
    assert any(line.startswith("```python") for line in screen)


def test_every_file_that_the_readme_names_exists() -> None:
    text = documents()["README.md"]
    names = re.findall(r"(?:scripts|examples|tokenizer|docs)/[\w./-]*\w/?|model_card\.md|CITATION\.cff", text)
    assert len(names) >= 5
    for name in names:
        assert (ROOT / name).exists(), name


def test_the_readme_is_short() -> None:
    text = documents()["README.md"]
    assert len(text.splitlines()) <= 130
    assert len(text.encode()) <= 10_240


def test_links_between_documents_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("room", ["", ".scope", ".debye", ".metrics", ".baselines", ".corpus"])
def test_every_public_name_is_in_the_api_page(room: str) -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    listed = {name.rpartition(".")[2] for name in re.findall(r"auto(?:class|function|data|exception):: ([\w.]+)", page)}
    public = set(importlib.import_module(f"cloud_hf{room}").__all__) - {"__version__"}
    of_errors = set(importlib.import_module("cloud_hf.errors").__all__)  # the page has them as a whole
    assert public - listed - of_errors == set()


def test_the_recipe_of_the_pretraining_guide_is_the_one_in_the_source() -> None:
    page = (ROOT / "docs" / "guides" / "pretrain.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert recipe == (ROOT / "scripts" / "recipes" / "pretrain_small.yaml").read_text(encoding="utf-8")
