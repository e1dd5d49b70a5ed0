"""transformers' published test mixins: fetched from the source archive of the installed version, never committed.

    python tests/transformers_common/mixins.py      # `make test-common` calls this first

The wheel holds no tests; the source archive holds the common ones, without the sub-packages that they import. Where
such a module serves what CLOUD is not (generation, exporters), an empty class stands in for it.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

CACHE = Path(__file__).parent / ".cache" / f"transformers-{version('transformers')}"
"""Git ignores it."""

FILES = (
    "test_configuration_common.py",
    "test_modeling_common.py",
    "test_sentencepiece_backend_mixin.py",
    "test_tokenization_common.py",
    "test_tokenizers_backend_mixin.py",
)

STAND_INS = {
    "__init__.py": "",
    "exporters/__init__.py": "",
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/__init__.py": "",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/__init__.py": "",
    "utils/test_configuration_utils.py": 'config_common_kwargs = {"return_dict": False, "output_attentions": True}\n',
    "fixtures/sample_text.txt": "1 0 0 | Cu 2i\n",
}
"""What the mixins import or read and the archive lacks."""

PACKAGE = CACHE / "mixin_tests"  # transformers looks for its fixtures in a folder whose name ends with "tests"


def fetched() -> bool:
    """Tell whether the mixins of the installed version are there."""
    return all((PACKAGE / name).is_file() for name in (*FILES, *STAND_INS))


def fetch() -> None:
    """Download the source archive with pip, and take the mixins out of it without building anything."""
    wanted = f"transformers=={version('transformers')}"
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*pip, "--no-build-isolation", "--dest", folder, wanted], check=True)
        (archive,) = Path(folder).glob("*.tar.gz")
        shutil.rmtree(PACKAGE, ignore_errors=True)
        for name, text in STAND_INS.items():
            (PACKAGE / name).parent.mkdir(parents=True, exist_ok=True)
            (PACKAGE / name).write_text(text, encoding="utf-8")
        with tarfile.open(archive) as source:
            for name in FILES:
                content = source.extractfile(f"{archive.name.removesuffix('.tar.gz')}/tests/{name}")
                assert content is not None, name
                (PACKAGE / name).write_bytes(content.read())


if __name__ == "__main__":
    if not fetched():
        fetch()
    print(PACKAGE)
