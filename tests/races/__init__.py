"""What happens between two awaits: each hook and each call of the engine is held, while something else happens."""

import pytest

pytest.register_assert_rewrite("tests.races.agreement", "tests.races.world")
