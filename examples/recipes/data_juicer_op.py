"""An operator for data-juicer that selects rows by SAE features.

    pip install hf-sae-select py-data-juicer

Name this file in a recipe of data-juicer, and the operator in its process:

    custom_operator_paths: [data_juicer_op.py]
    process:
      - sae_selector:
          budget: 3000

data-juicer pins dill 0.3.8, with which `datasets` 5 worked too. Tried with data-juicer 1.6, alone and before another
operator.
"""

from __future__ import annotations

from typing import Any

from data_juicer.ops.base_op import OPERATORS, Selector

import hf_sae_select


@OPERATORS.register_module("sae_selector")  # type: ignore[untyped-decorator]
class SaeSelector(Selector):  # type: ignore[misc]
    """Keep the rows that `hf_sae_select.select` picks, in the order in which it picks them.

    Args:
        budget: rows, a share, or an amount such as "2M tokens".
        method: the method of selection.
        **kwargs: what all operators of data-juicer take, such as `text_key`.
    """

    def __init__(self, budget: float | str = 0.1, method: str = "herding", *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.budget, self.method = budget, method

    def process(self, dataset: Any) -> Any:
        return hf_sae_select.select(dataset, self.budget, self.method, text=self.text_key)
