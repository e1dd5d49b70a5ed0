"""Importing the package is quick, and CLOUD is still known to transformers, whichever comes first."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloud_hf

HEAVY = """
import json, sys
found = []
for statement in {statements!r}:
    exec(statement)
    found.append([name for name in ("torch", "transformers", "pandas", "pymatgen") if name in sys.modules])
print(json.dumps(found))
"""

FINDS_CLOUD = """
{statement}
import json
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.pipelines import PIPELINE_REGISTRY
config = AutoConfig.for_model("cloud", hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8)
model = AutoModel.from_config(config)
print(json.dumps([type(model).__module__, "crystal-property" in PIPELINE_REGISTRY.get_supported_tasks()]))
"""


def test_no_more_is_imported_than_is_needed(run_python: Callable[..., Any]) -> None:
    """One process after another module: what is there already would only hide that the next one needs more."""
    statements = [
        "import cloud_hf, cloud_hf.cli.main; cloud_hf.__version__; cloud_hf.cli.main.build_parser()",
        "import cloud_hf; cloud_hf.bundled_heads(); cloud_hf.CloudError",
        "import cloud_hf.metrics",
        "import cloud_hf.parallel.worker",
        "import cloud_hf.cli.encode",
        "import cloud_hf.cli.predict",
    ]
    nothing, heads, metrics, worker, encode, predict = map(set, run_python(HEAVY.format(statements=statements)))
    assert nothing == heads == metrics == set()
    assert worker <= {"pymatgen"}
    assert encode <= {"pymatgen"}
    assert predict <= {"pymatgen"}


def test_the_encoder_leaves_alone_what_few_crystals_need(run_python: Callable[..., Any]) -> None:
    names = ("pymatgen.io.vasp", "scipy.signal", "scipy.stats", "ase", "moyopy")
    script = f"import json, sys, cloud_hf.scope\nprint(json.dumps([name for name in {names} if name in sys.modules]))"
    assert run_python(script) == []


PREDICTS = """
import contextlib, io, json, sys
from cloud_hf.checkpoints.bundled import bundled_model
from cloud_hf.cli.main import main
found = []
for given in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = main(["predict", given, "--model", bundled_model(), "--no-intervals"])
    found.append([status, "Cu" in out.getvalue(), [name for name in {names} if name in sys.modules]])
print(json.dumps(found))
"""


def test_a_prediction_leaves_alone_what_it_does_not_need(run_python: Callable[..., Any], root: Path) -> None:
    names = (
        "transformers.modeling_utils", "transformers.pipelines", "transformers.models", "accelerate", "torch._dynamo",
        "torch.distributed.tensor", "sympy", "scipy", "pandas", "pyarrow", "pymatgen.io.cif", "sklearn", "datasets",
        "matplotlib", "ase", "onnx",
    )  # fmt: skip
    given = ("1 0 0 | Cu 2i", root / "examples" / "Cu.cif")
    assert run_python(PREDICTS.format(names=names), *given) == [[0, True, []]] * 2


ENCODES = """
import contextlib, io, json, sys
from cloud_hf.cli.main import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    status = main(["encode", *sys.argv[1:]])
print(json.dumps([status, "Cu 4a" in out.getvalue(), [name for name in {names} if name in sys.modules]]))
"""


def test_strings_on_the_terminal_need_no_tables(run_python: Callable[..., Any], root: Path) -> None:
    names = ("torch", "transformers", "pandas", "pyarrow", "scipy", "matplotlib")
    assert run_python(ENCODES.format(names=names), root / "examples" / "Cu.cif") == [0, True, []]


@pytest.mark.parametrize(
    "statement",
    ["import transformers, cloud_hf", pytest.param("import cloud_hf, transformers", marks=pytest.mark.slow)],
)
def test_importing_both_loads_no_torch(run_python: Callable[..., Any], statement: str) -> None:
    (found,) = run_python(HEAVY.format(statements=[statement]))
    assert "torch" not in found


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("import cloud_hf; cloud_hf.register()", marks=pytest.mark.slow),
        pytest.param("import cloud_hf, transformers; cloud_hf.register()", marks=pytest.mark.slow),
        pytest.param("from cloud_hf import CloudConfig", marks=pytest.mark.slow),
        pytest.param("import cloud_hf; cloud_hf.bundled_model()", marks=pytest.mark.slow),
        "from transformers import AutoModel; import cloud_hf",
        pytest.param(
            "from transformers import pipeline; import cloud_hf.models.modeling_cloud", marks=pytest.mark.slow
        ),
        pytest.param("import peft, cloud_hf", marks=pytest.mark.slow),
    ],
)
def test_transformers_knows_cloud(run_python: Callable[..., Any], statement: str) -> None:
    if "peft" in statement:
        pytest.importorskip("peft")
    assert run_python(FINDS_CLOUD.format(statement=statement)) == ["cloud_hf.models.modeling_cloud", True]


def test_registering_again_changes_nothing() -> None:
    from transformers.pipelines import PIPELINE_REGISTRY

    cloud_hf.register()
    before = dict(PIPELINE_REGISTRY.supported_tasks)
    cloud_hf.register()
    assert before == PIPELINE_REGISTRY.supported_tasks


def test_every_public_name_is_there_for_people_and_for_type_checkers() -> None:
    tree = ast.parse(Path(cloud_hf.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed | {"__version__"} == set(cloud_hf.__all__)
    assert set(cloud_hf.__all__) <= set(dir(cloud_hf))
    for name in cloud_hf.__all__:
        assert getattr(cloud_hf, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Cload"):
        cloud_hf.CloadModel  # noqa: B018


def test_the_package_takes_the_auto_classes_from_where_they_know_cloud() -> None:
    package = Path(cloud_hf.__file__).parent
    direct = [
        f"{path.relative_to(package)}: {alias.name}"
        for path in package.rglob("*.py")
        if path.name != "registration.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "transformers"
        for alias in node.names
        if alias.name.startswith("Auto")
    ]
    assert not direct, "import them from cloud_hf.checkpoints.registration"
