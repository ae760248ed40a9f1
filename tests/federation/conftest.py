"""A real PostgreSQL, and an empty database of its own for each test."""

from tests.storage.conftest import server as server
from tests.storage.conftest import url as url
