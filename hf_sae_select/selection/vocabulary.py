"""Vocabulary: the features of an SAE by number, and by name where it has labels."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from .._secrets import masked
from .._validation import check_text, is_number
from ..sae.labels import Label, Labels, labels_of

MOST_NEAR = 5  # features that an error offers


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Look up features of an SAE."""

    d_sae: int
    labels: Labels | None

    @classmethod
    def of(
        cls, labels: Labels | None, record: Mapping[str, Any] | None, sae: Any = None, needs_names: bool = True
    ) -> Vocabulary:
        """Take the labels that were passed, or those of the SAE; no language model is loaded.

        Args:
            record: the encoding record of the rows, or None where `sae` will encode them.
            needs_names: whether labels are fetched that lie beside the weights of `sae`.

        Raises:
            ValueError: The labels are of another SAE.
        """
        if record is None:
            from ..sae.label_sources import load_labels
            from ..sae.loading import load_sae  # needs torch

            loaded = load_sae(sae, encoder_only=True)
            record = {"d_sae": loaded.config.d_sae, "sae_sha256": loaded.digest()}
            if labels is None and needs_names and loaded.labels_place is not None:
                labels = load_labels(loaded)
        if labels is not None:
            labels.check(record)
        return cls(record["d_sae"], labels_of(record) if labels is None else labels)

    def features(self, argument: str, concept: Any) -> list[int]:
        """Return the feature of a number, or those of a name; warn where it is the name of several.

        Raises:
            TypeError, ValueError: There is no such feature.
        """
        if not isinstance(concept, str):
            if not is_number(concept, Integral) or not 0 <= concept < self.d_sae:
                raise ValueError(f"`{argument}` has {concept!r}; a feature is a number from 0 to {self.d_sae - 1}")
            return [int(concept)]
        check_text(argument, concept)
        if self.labels is None:
            raise ValueError(
                f"`{argument}` has the name {concept!r}, but the SAE has no labels: pass numbers of features, or "
                "`labels`, see `load_labels` and `label_features`"
            )
        wanted = concept.strip().casefold()
        carriers = [feature for feature in self.labels.named if wanted in _names(self.labels[feature])]
        if not carriers:
            hint = f"; pass the number {wanted}" if wanted.isdecimal() else self._near(wanted)
            raise ValueError(f"`{argument}` has {concept!r}, which is the name of no feature{hint}")
        if len(carriers) > 1:
            named = ", ".join(map(self.title, carriers))
            warnings.warn(
                f"`{argument}` has {concept!r}, a name of {len(carriers)} features, and all of them count: {named}; "
                "pass numbers to choose among them",
                stacklevel=2,
            )
        return carriers

    def name(self, feature: int) -> str:
        """Return the name of a feature; empty if it has none."""
        return "" if self.labels is None else masked(self.labels.name(feature))

    def title(self, feature: int) -> str:
        """Return the number and the name of a feature."""
        return f"#{feature} {self.name(feature)}".rstrip()

    def _near(self, wanted: str) -> str:
        """Offer names that contain a text, or have it among their words, or are spelled alike."""
        assert self.labels is not None
        near = [feature for feature in (self.labels.find(wanted) if wanted else []) if self.labels.name(feature)]
        if not near:
            carriers: dict[str, int] = {}
            for feature in self.labels.named:
                for name in _names(self.labels[feature]):
                    carriers.setdefault(name, feature)
            near = [carriers[name] for name in difflib.get_close_matches(wanted, carriers, MOST_NEAR)]
        shown = ", ".join(map(self.title, dict.fromkeys(near[:MOST_NEAR])))
        return f"; near it: {shown}. Pass a number, or such a name" if shown else "; see `labels.find`"


def _names(label: Label) -> list[str]:
    """Return the texts by which a feature is named: the whole name, and its parts between slashes."""
    name = label.name.casefold()
    return [name, *(part.strip() for part in name.split("/"))]
