"""Cross-entropy of a language model while an SAE's reconstructions replace its hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..encoding.batches import Window
from ..encoding.families import INPUT
from ..encoding.language_model import LanguageModel
from ..encoding.pretrained import load
from ..sae.model import SparseAutoencoder
from .reading import in_chunks


class CausalLanguageModel(LanguageModel):
    """Run a whole decoder, with its head, and optionally replace the vectors at the hook."""

    auto_class = "AutoModelForCausalLM"

    def __init__(self, model: Any, tokenizer: Any, hook: str, **options: Any) -> None:
        """Take a model with its head.

        Raises:
            ValueError: If the model is not a decoder, that is, its prediction of a token depends on later tokens.
        """
        super().__init__(model, tokenizer, hook, **options)
        pairs = torch.tensor([[1, 2], [1, 3]], device=self.device)
        with torch.no_grad():
            first = self.model(input_ids=pairs).logits[:, 0].float()
        if not torch.allclose(first[0], first[1], atol=1e-6, rtol=1e-5):
            raise ValueError(
                f"`cross_entropy=True` needs a decoder; {type(model).__name__} is not one: "
                "it sees the token that it predicts"
            )

    @classmethod
    def load_model(
        cls, name: str, revision: str | None, dtype: torch.dtype | str, kind: type | None = None, **model_kwargs: Any
    ) -> Any:
        """Load a whole model with its head, whatever `kind` says.

        Raises:
            ValueError: If the checkpoint has no weights for the head, which would then be random.
        """
        model_kwargs |= {"dtype": dtype, "output_loading_info": True}
        model, report = load(cls.auto_class, name, revision, **model_kwargs)
        if missing := sorted(report["missing_keys"]):
            raise ValueError(
                f"`cross_entropy=True` needs a model with a trained head; {name} was saved without `{missing[0]}`"
            )
        return model

    @torch.no_grad()
    def cross_entropy(self, windows: Sequence[Window], replace: Callable[[Tensor], Tensor] | None = None) -> float:
        """Return the mean loss, in nats, over the text tokens that follow another token.

        Args:
            windows: Windows of tokens to predict.
            replace: Maps the vectors [tokens, d_in] at the hook that an SAE reads to vectors of the same shape. The
                vectors of special tokens and of outlying norm stay as they are.

        Raises:
            ValueError: If no window has two tokens.
        """
        loss, count = 0.0, 0
        for window in windows:
            ids = torch.tensor([window.ids], device=self.device)
            text = torch.tensor([window.is_text], device=self.device)
            with self._replaced(text, replace):
                logits = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1]
            is_text = text[0, 1:]
            losses = nn.functional.cross_entropy(logits.float(), ids[0, 1:], reduction="none")
            loss, count = loss + losses[is_text].sum().item(), count + int(is_text.sum())
        if not count:
            raise ValueError("the texts have no token that follows another one; pass longer texts")
        return loss / count

    @contextmanager
    def _replaced(self, text: Tensor, replace: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
        """Replace the vectors at the hook within the block; `text` [1, tokens] tells which tokens are text."""
        if replace is None:
            yield
            return

        def replaced(hidden: Tensor) -> Tensor:
            shape = hidden.shape
            hidden = hidden.reshape(*text.shape, -1)  # OPT has the windows in a row
            mask = text.clone()
            mask[text] = self.ordinary(hidden[text])
            hidden = hidden.clone()
            hidden[mask] = replace(hidden[mask].float()).to(hidden.dtype)
            return hidden.view(shape)

        def on_output(module: nn.Module, args: Any, output: Any) -> Any:
            if isinstance(output, tuple | list):
                return type(output)([replaced(output[0]), *output[1:]])
            return replaced(output)

        def on_input(module: nn.Module, args: Any, kwargs: Any) -> Any:
            if args:
                return (replaced(args[0]), *args[1:]), kwargs
            first = "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs))
            return args, {**kwargs, first: replaced(kwargs[first])}

        if self.hook.side == INPUT:
            handle = self.hook.module.register_forward_pre_hook(on_input, with_kwargs=True)
        else:
            handle = self.hook.module.register_forward_hook(on_output)
        try:
            yield
        finally:
            handle.remove()


def _reconstructed(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    return torch.cat([sae(chunk) for chunk in in_chunks(x.to(sae.W_enc.dtype), sae)])


def cross_entropy_recovered(sae: SparseAutoencoder, model: CausalLanguageModel, windows: Sequence[Window]) -> float:
    """Return (zeros - reconstructed) / (zeros - original), of the losses with these vectors at the hook.

    1 means that the reconstructions cost no loss; 0, that they cost as much as zeros.
    """
    original = model.cross_entropy(windows)
    reconstructed = model.cross_entropy(windows, lambda x: _reconstructed(sae, x))
    zeros = model.cross_entropy(windows, torch.zeros_like)
    if zeros == original:
        raise ValueError("the model has the same loss with zeros at the hook: no loss can be recovered")
    return (zeros - reconstructed) / (zeros - original)
