"""The eight structure tasks of MatBench v0.1.

Facts are those of the benchmark's repository and of matminer's registry of data sets, which the benchmark loads from:
rows, target, MAD and unit (`matbench_v0.1_dataset_metadata.json`), and address and SHA-256 (`dataset_metadata.json`).
Neither gives sizes in bytes, nor a checksum of the fold file.
"""

from dataclasses import dataclass

from cloud_hf.studies.common.published import MATBENCH_UNITS

__all__ = ["ADDRESS", "MATBENCH_TASKS", "MatbenchTask"]

ADDRESS = "https://ml.materialsproject.org/projects/{}"
"""Of a file of the benchmark, by its name."""


@dataclass(frozen=True)
class MatbenchTask:
    """A task of the benchmark.

    Attributes:
        name: Without the prefix `matbench_`.
        target: Column of the target.
        quantity: What it is, in words.
        rows: Rows of the data set.
        mad: Mean absolute deviation of the target, in its unit.
        sha256: Of `matbench_<name>.json.gz`.
        transform: What a head learns. The logarithm of what is positive and spans orders of magnitude by its nature, a
            refractive index (of 1 at least) and a frequency; no test row has been looked at for it.
    """

    name: str
    target: str
    quantity: str
    rows: int
    mad: float
    sha256: str
    transform: str = "standardise"

    @property
    def unit(self) -> str:
        """Of the target."""
        return MATBENCH_UNITS[f"matbench_{self.name}"]


_TASKS = (
    MatbenchTask(
        "jdft2d",
        "exfoliation_en",
        "exfoliation energy",
        636,
        67.20200406491116,
        "26057dc4524e193e32abffb296ce819b58b6e11d1278cae329a2f97817a4eddf",
    ),
    MatbenchTask(
        "phonons",
        "last phdos peak",
        "frequency of the last phonon DOS peak",
        1265,
        323.78696979348734,
        "4db551f21ec5f577e6202725f10e34dfc509aa7df3a6bdaac497da7f6dbbb9b3",
        "log",
    ),
    MatbenchTask(
        "dielectric",
        "n",
        "refractive index",
        4764,
        0.808534704217072,
        "83befa09bc2ec2f4b6143afc413157827a90e5e2e42c1eb507ccfa01bf26a1d6",
        "log",
    ),
    MatbenchTask(
        "log_gvrh",
        "log10(G_VRH)",
        "log10 of the shear modulus",
        10987,
        0.29313828328604646,
        "098af941f4c663270f1fe21abf20ffad6fb85ecbfcba5786ceac03983ac29da7",
    ),
    MatbenchTask(
        "log_kvrh",
        "log10(K_VRH)",
        "log10 of the bulk modulus",
        10987,
        0.2896736342937069,
        "44b113ddb7e23aa18731a62c74afa7e5aa654199e0db5f951c8248a00955c9cd",
    ),
    MatbenchTask(
        "perovskites",
        "e_form",
        "formation energy",
        18928,
        0.5659924184827462,
        "4641e2417f8ec8b50096d2230864468dfa08278dc9d257c327f65d0305278483",
    ),
    MatbenchTask(
        "mp_gap",
        "gap pbe",
        "PBE band gap",
        106113,
        1.3271449960162496,
        "58b65746bd88329986ed66031a2ac1369c7c522f7bc9f9081528e07097c2c057",
    ),
    MatbenchTask(
        "mp_e_form",
        "e_form",
        "formation energy",
        132752,
        1.0059220443295362,
        "dedcb1d4ba2e3e50dbdd45ba5bc647a00e9c2bcf8f8bf556dc8e92caa39eb21f",
    ),
)

MATBENCH_TASKS = {task.name: task for task in _TASKS}
"""The eight structure tasks, without the prefix `matbench_`."""
