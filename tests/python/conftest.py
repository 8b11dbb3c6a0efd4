# SPDX-License-Identifier: Apache-2.0
import pytest

import blockbridge as bb


@pytest.fixture
def runtime():
    with bb.Runtime() as runtime:
        yield runtime
