"""A language model with its head, for what an SAE's reconstructions cost: cross-entropy with vectors replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..encoding.hooks import INPUT
from ..encoding.language_model import LanguageModel, Window
from ..encoding.pretrained import load


class Predictor(LanguageModel):
    """Run a whole language model, head included, with the vectors at the hook changed on their way."""

    def __init__(self, model: Any, tokenizer: Any, hook: str, **options: Any) -> None:
        """Take a model with its head.

        Raises:
            ValueError: it is no decoder: what it says of a token depends on the next one.
        """
        super().__init__(model, tokenizer, hook, **options)
        pairs = torch.tensor([[1, 2], [1, 3]], device=self.device)
        with torch.no_grad():
            first = self.model(input_ids=pairs).logits[:, 0].float()
        if not torch.allclose(first[0], first[1], atol=1e-6, rtol=1e-5):
            raise ValueError(f"{type(model).__name__} is no decoder: it sees the token that it should predict")

    @classmethod
    def load_model(cls, name: str, revision: str | None, dtype: torch.dtype | str, **model_kwargs: Any) -> Any:
        """Load a model with its head.

        Raises:
            ValueError: it was saved without one, which would be made up.
        """
        model, report = load(
            "AutoModelForCausalLM", name, revision, dtype=dtype, output_loading_info=True, **model_kwargs
        )
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"{name} was saved without `{missing[0]}`: what it would predict is not known")
        return model

    @torch.no_grad()
    def cross_entropy(self, windows: Sequence[Window], change: Callable[[Tensor], Tensor] | None = None) -> float:
        """Return the mean loss, in nats, of predicting each text token that has another token before it.

        `change` maps the vectors at the hook that an SAE reads, [tokens, d_in] -> [tokens, d_in]; those of special
        tokens and of outlying norm stay as they are.

        Raises:
            ValueError: no window has two tokens.
        """
        loss, count = 0.0, 0
        for window in windows:
            ids, mask, text = self._padded([window], len(window.ids))
            with self._changed(text, change):
                logits = self.model(input_ids=ids, attention_mask=mask).logits[0, :-1]
            wanted = text[0, 1:]
            each = nn.functional.cross_entropy(logits.float(), ids[0, 1:], reduction="none")
            loss, count = loss + each[wanted].sum().item(), count + int(wanted.sum())
        if not count:
            raise ValueError("`windows` hold no token with another before it: there is nothing to predict")
        return loss / count

    @contextmanager
    def _changed(self, text: Tensor, change: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
        if change is None:
            yield
            return

        def changed(hidden: Tensor) -> Tensor:
            read = text.clone()
            read[text] = self.ordinary(hidden[text])
            hidden = hidden.clone()
            hidden[read] = change(hidden[read].float()).to(hidden.dtype)
            return hidden

        def on_output(module: nn.Module, args: Any, output: Any) -> Any:
            return (changed(output[0]), *output[1:]) if isinstance(output, tuple) else changed(output)

        def on_input(module: nn.Module, args: Any, kwargs: Any) -> Any:
            if args:
                return (changed(args[0]), *args[1:]), kwargs
            first = next(iter(kwargs))
            return args, {**kwargs, first: changed(kwargs[first])}

        if self.hook.side == INPUT:
            handle = self.hook.module.register_forward_pre_hook(on_input, with_kwargs=True)
        else:
            handle = self.hook.module.register_forward_hook(on_output)
        try:
            yield
        finally:
            handle.remove()
