"""A data folder of two photos, and stores that are closed in the end."""

from __future__ import annotations

import pytest
from page_support import photo

from dvos.labelling.documents import open_document
from dvos.labelling.store import LabelStore
from dvos.media.image import write_image


@pytest.fixture
def folder(tmp_path):
    """A folder with two photos."""
    for number in (1, 2):
        write_image(tmp_path / "data" / f"photo{number}.png", photo(number))
    return tmp_path / "data"


@pytest.fixture
def opened():
    """Opens the store of a folder; all are closed in the end."""
    stores = []

    def open_store(path, **options):
        stores.append(LabelStore(open_document(path, **options)))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()
