"""Errors of predictions and consistency of thermal properties, as functions and as `evaluate` modules.

`evaluate.load(metric_path("mae_mad"))` works offline; `METRICS` lists the modules, one folder each.
"""

from pathlib import Path

from cloud_hf.errors import CloudError
from cloud_hf.metrics.functions import regression_metrics, thermodynamic_consistency

__all__ = ["METRICS", "metric_path", "regression_metrics", "thermodynamic_consistency"]

METRICS = ("mae_mad", "regression", "thermodynamic_consistency")
"""Names of the `evaluate` modules inside the package."""


def metric_path(name: str) -> str:
    """Return the folder of an `evaluate` module, to be given to `evaluate.load`.

    Args:
        name: One of `METRICS`.

    Raises:
        CloudError: There is no such module.
    """
    if name not in METRICS:
        raise CloudError(f"There is no metric {name!r}; there is: {', '.join(METRICS)}.")
    return str(Path(__file__).with_name(name))
