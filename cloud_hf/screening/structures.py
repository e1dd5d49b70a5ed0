"""Candidates back to structures: the prototype with other elements at a predicted volume, proved by its string.

The volume follows from that of the prototype and from the radii of old and new elements, ionic ones where bond valences
tell the charges (pymatgen's `RLSVolumePredictor`). Nothing is relaxed: shape and free coordinates are the prototype's.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

from pymatgen.analysis.structure_prediction.volume_predictor import RLSVolumePredictor
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter

from cloud_hf.errors import CloudError, one_line
from cloud_hf.files import write_text
from cloud_hf.scope import ScopeEncoder
from cloud_hf.screening.prototypes import Prototype

__all__ = ["candidate_structure", "write_structure"]

NOTE = """# A hypothetical crystal: a starting point for relaxation, not a relaxed structure.
# {formula} in the structure of {prototype}; volume predicted by pymatgen, shape and free coordinates of the prototype.
# SCOPE string: {scope}
"""


def candidate_structure(prototype: Prototype, elements: Sequence[str]) -> Structure:
    """Return the conventional cell of a prototype with other elements and a predicted volume.

    Args:
        prototype: With its structure.
        elements: One for each slot.

    Raises:
        CloudError: The prototype has no structure, or there is no volume for these elements.
    """
    if prototype.structure is None:
        raise CloudError(
            "comes from a string, which has no structure; give the prototype as a crystal file to get structures.",
            source=prototype.name,
        )
    structure = prototype.structure.copy()
    structure.replace_species(dict(zip(prototype.elements, elements, strict=True)))
    predictor = RLSVolumePredictor(check_isostructural=False, radii_type="ionic-atomic")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of elements without an ionic radius
        try:
            volume = float(predictor.predict(structure, prototype.structure))
        except (ValueError, KeyError, IndexError, TypeError, ZeroDivisionError, AttributeError) as error:
            raise CloudError(
                f"pymatgen predicts no volume for {prototype.compound(elements)} ({one_line(error)}).",
                source=prototype.name,
            ) from error
    structure.scale_lattice(volume)
    return structure


def write_structure(prototype: Prototype, elements: Sequence[str], scope: str, path: str | Path) -> Structure:
    """Write the structure of a candidate as a CIF, and prove that the file has the string of the candidate.

    Args:
        prototype: With its structure.
        elements: One for each slot.
        scope: String of the candidate.
        path: The `.cif` file.

    Returns:
        The structure.

    Raises:
        CloudError: There is no structure, or what was written has another string; then there is no file.
    """
    structure = candidate_structure(prototype, elements)
    formula = prototype.compound(elements)
    text = str(CifWriter(structure, significant_figures=8))
    read_scope = ScopeEncoder().encode(Structure.from_str(text, fmt="cif"))
    if read_scope != scope:
        raise CloudError(
            f"{formula} in this structure has the string {read_scope!r}, not {scope!r}.", source=prototype.name
        )
    note = NOTE.format(formula=formula, prototype=f"{prototype.name} ({prototype.formula})", scope=scope)
    write_text(note + text, path)
    read_scope = ScopeEncoder().encode(str(path))  # as any user reads it
    if read_scope != scope:
        Path(path).unlink()
        raise CloudError(f"the file of {formula} has the string {read_scope!r}, not {scope!r}.", source=prototype.name)
    return structure
