"""Uploads are gone once they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_hf.app.reading import MAX_BYTES
from cloud_hf.app.uploads import Uploads
from cloud_hf.errors import CrystalReadError


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path)


def put(uploads: Uploads, content: bytes, name: str = "a.cif") -> Path:
    folder = uploads.folder / str(len(content))
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_the_same_upload_of_two_users_who_came_at_once(uploads: Uploads) -> None:
    path = put(uploads, b"data_")
    assert uploads.take(path) == b"data_"
    assert list(uploads.folder.iterdir()) == []
    assert uploads.take(path) == b"data_"
    uploads.clear(0)
    with pytest.raises(CrystalReadError, match="lost"):
        uploads.take(path)


def test_another_name_of_the_same_content_stays(uploads: Uploads) -> None:
    one, other = put(uploads, b"data_", "a.cif"), put(uploads, b"data_", "b.cif")
    uploads.take(one)
    assert uploads.take(other) == b"data_"
    assert list(uploads.folder.iterdir()) == []


def test_too_large_is_deleted_all_the_same(uploads: Uploads) -> None:
    with pytest.raises(CrystalReadError, match="more than 2 MB"):
        uploads.take(put(uploads, b"x" * (MAX_BYTES + 1)))
    assert list(uploads.folder.iterdir()) == []


def test_what_was_broken_off_is_deleted_later(uploads: Uploads) -> None:
    (uploads.folder / "tmpabc").write_bytes(b"half a file")
    put(uploads, b"data_")
    uploads.clear(300)
    assert len(list(uploads.folder.iterdir())) == 2
    uploads.clear(-10)
    assert list(uploads.folder.iterdir()) == []


def test_nothing_else_is_touched(uploads: Uploads, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other") / "x"
    other.mkdir()
    (other / "secret.cif").write_text("data_")
    (uploads.folder / "stray.cif").write_text("data_")
    (uploads.folder / "link").symlink_to(other)
    for path in (other / "secret.cif", uploads.folder / "stray.cif", uploads.folder / "link" / "secret.cif"):
        with pytest.raises(CrystalReadError, match="no upload"):
            uploads.take(path)
        assert path.is_file()
