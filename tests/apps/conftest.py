"""A folder of configurations of a user's own."""

import pytest

MINE = """
name: mine
environment: {name: pusht, options: {}}
dataset: my.zarr
"""


@pytest.fixture
def my_configs(tmp_path):
    folder = tmp_path / "my configs"  # with a space, as folders have
    (folder / "task").mkdir(parents=True)
    (folder / "task" / "mine.yaml").write_text(MINE)
    return folder
