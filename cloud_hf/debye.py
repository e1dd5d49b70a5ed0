"""The Debye model under its public name: heat capacity, energies and entropy, differentiable (see `models.debye`)."""

from cloud_hf.models.debye import *  # noqa: F403
from cloud_hf.models.debye import __all__ as __all__
