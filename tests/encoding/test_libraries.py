import gc
import subprocess
import sys

import pytest

from hf_sae_select.encoding.libraries import import_libraries

FIRST = """
import gc
{before}
from hf_sae_select.encoding.libraries import import_libraries
import_libraries()
import sys
print("transformers.modeling_utils" in sys.modules, gc.isenabled(), gc.get_freeze_count() > 0)
"""


def test_the_garbage_collector_is_afterwards_as_it_was():
    for switch, is_enabled in ((gc.disable, False), (gc.enable, True)):
        switch()
        import_libraries()
        assert gc.isenabled() is is_enabled


@pytest.mark.slow
def test_what_a_user_of_torch_has_made_can_be_collected():
    for before, is_frozen in (("", True), ("import torch", False)):
        script = FIRST.format(before=before)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["True", "True", str(is_frozen)]
