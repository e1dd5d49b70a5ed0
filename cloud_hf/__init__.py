"""CLOUD for the Hugging Face ecosystem: crystals in, physical predictions out.

Importing this package is quick: its names are loaded when they are first used, so that encoding crystals and the
command's help need neither torch nor transformers. CLOUD is registered with the Auto classes and the
`crystal-property` pipeline as soon as transformers is imported, before or after this package.
"""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from wrapt import register_post_import_hook

if TYPE_CHECKING:
    from cloud_hf.checkpoints.bundled import DEFAULT_HEAD, bundled_heads, bundled_model
    from cloud_hf.errors import CloudError
    from cloud_hf.models.configuration_cloud import CloudConfig
    from cloud_hf.models.modeling_cloud import (
        CloudForDebye,
        CloudForMaskedLM,
        CloudForPropertyRegression,
        CloudModel,
        CloudPreTrainedModel,
    )
    from cloud_hf.models.modeling_properties import CloudForCrystalProperties
    from cloud_hf.models.pipeline_cloud import CrystalPropertyPipeline
    from cloud_hf.models.tokenization_scope import ScopeTokenizer, grammar_of
    from cloud_hf.scope import EncodedCrystal, ScopeEncoder

try:
    __version__ = version("cloud-hf")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "DEFAULT_HEAD",
    "CloudConfig",
    "CloudError",
    "CloudForCrystalProperties",
    "CloudForDebye",
    "CloudForMaskedLM",
    "CloudForPropertyRegression",
    "CloudModel",
    "CloudPreTrainedModel",
    "CrystalPropertyPipeline",
    "EncodedCrystal",
    "ScopeEncoder",
    "ScopeTokenizer",
    "__version__",
    "bundled_heads",
    "bundled_model",
    "grammar_of",
]

_MODULE_OF = {
    "DEFAULT_HEAD": "checkpoints.bundled",
    "CloudConfig": "models.configuration_cloud",
    "CloudError": "errors",
    "CloudForCrystalProperties": "models.modeling_properties",
    "CloudForDebye": "models.modeling_cloud",
    "CloudForMaskedLM": "models.modeling_cloud",
    "CloudForPropertyRegression": "models.modeling_cloud",
    "CloudModel": "models.modeling_cloud",
    "CloudPreTrainedModel": "models.modeling_cloud",
    "CrystalPropertyPipeline": "models.pipeline_cloud",
    "EncodedCrystal": "scope",
    "ScopeEncoder": "scope",
    "ScopeTokenizer": "models.tokenization_scope",
    "bundled_heads": "checkpoints.bundled",
    "bundled_model": "checkpoints.bundled",
    "grammar_of": "models.tokenization_scope",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_FLAT = [
    f"{__name__}.{room}.{path.stem}"
    for room in ("models", "checkpoints", "inference")
    for path in (Path(__file__).parent / room).glob("[!_]*.py")
]


def _register(imported: ModuleType) -> None:
    """Register the classes, unless a module that defines them is being imported: the end of that calls this again."""
    for name in _FLAT:
        unfinished = getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False)
        if unfinished and name != imported.__name__:
            return
    if "transformers" in sys.modules:
        from cloud_hf.checkpoints.registration import register

        register()


for _name in ("transformers", *_FLAT):
    register_post_import_hook(_register, _name)
