"""The Debye model under its public name: heat capacity, energies and entropy, differentiable (see `models.debye`).

Beside it, the inverse for measured, computed and predicted heat capacities, some of which no Debye solid has.
"""

from cloud_hf.models.debye import *  # noqa: F403
from cloud_hf.models.debye import __all__ as __all__
