"""numba of others beside ours: the listener of this package leaves alone what it does not know."""

from types import SimpleNamespace

import pytest
from numba.core.event import Event, EventStatus

from hf_sae_select.features import compiler


def nameless():
    pass


nameless.__module__ = None


@pytest.mark.parametrize(
    "dispatcher", [SimpleNamespace(), SimpleNamespace(py_func=None), SimpleNamespace(py_func=nameless)]
)
def test_functions_without_a_module_compile_without_a_bar(dispatcher):
    progress = compiler.Progress()
    progress.on_start = progress.on_end = pytest.fail
    for status in EventStatus:
        progress.notify(Event("numba:compile", status, {"dispatcher": dispatcher}))
