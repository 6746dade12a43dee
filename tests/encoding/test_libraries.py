import subprocess
import sys

import pytest

FIRST = """
import gc, sys, weakref
class Cycle:
    def __init__(self): self.me = self
cycle = Cycle()
alive = weakref.ref(cycle)
{before}
from hf_sae_select.encoding.libraries import import_libraries
import_libraries()
was_enabled, was_frozen = gc.isenabled(), gc.get_freeze_count() > 0
import_libraries()
del cycle
gc.collect()
is_frozen, is_collected = gc.get_freeze_count() > 0, alive() is None
print("transformers.modeling_utils" in sys.modules, was_enabled, was_frozen, is_frozen, is_collected)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", ["True", "True", "True", "False", "True"]),
        ("gc.disable()", ["True", "False", "True", "False", "True"]),
        ("gc.freeze()", ["True", "True", "True", "True", "False"]),  # as without the import
    ],
)
def test_the_garbage_collector_is_afterwards_as_the_user_left_it(before, expected):
    script = FIRST.format(before=before)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected
