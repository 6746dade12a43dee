"""Early checks: what is wrong with arguments of `select` or `compare` is said before a stream is read, not after.

Arguments are checked before the first row is read; columns and the text by the first rows. What depends on all rows,
such as a budget above their number, `select` and `compare` check themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

from .._validation import check_flag, check_int
from ..engines.engine import engine_of
from ..engines.session import opened
from ..features.columns import is_encoded
from ..features.matrix import FeatureMatrix
from .api import available_codes, select
from .budget import Budget
from .comparison import DEFAULT_METHODS, compare
from .concept_rules import ConceptArguments
from .constraints import ConstraintArguments
from .contamination import NearArgument
from .cuts import Cuts
from .extension import check_known
from .lines import Line, lines_of, takes_target
from .request import without_rows
from .target_argument import TargetArgument
from .vocabulary import Vocabulary

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset, Features

CUTS = ("threshold", "top", "max_share", "embedding")
CONSTRAINTS = ("must_include", "exclude", "quota", "quality", "cost", "per_token", "extend")


@dataclass(frozen=True)
class EarlyChecks:
    """Hold arguments that were checked without rows, until the first rows are there."""

    arguments: Mapping[str, Any]
    """All arguments of the call, by name."""
    embeddings: frozenset[str]
    """The columns of vectors that methods compare."""
    constraints: tuple[ConstraintArguments, ...]
    keep: tuple[str, ...]
    """What the methods need beside the codes."""

    @classmethod
    def of_select(cls, schema: Features | None, *arguments: Any, **named: Any) -> EarlyChecks:
        """Check the arguments of `select` but for the rows.

        Args:
            schema: the types of the columns, where they are known before a row is read.

        Raises:
            TypeError, ValueError: An argument is not allowed; the message names it.
            OSError: A target or an SAE cannot be read.
        """
        values = _bound(select, arguments, named)
        check_flag("keep_codes", values["keep_codes"])
        check_engine(values["engine"])
        shared = {name: values[name] for name in (*CONSTRAINTS, "seed", "embedding")}
        line = Line(values["method"], shared, values["options"], _concepts(values))
        return cls._of(schema, values, [line], is_aimed=lambda line: True)

    @classmethod
    def of_compare(cls, schema: Features | None, *arguments: Any, **named: Any) -> EarlyChecks:
        """Check the arguments of `compare` but for the rows, as `of_select` does."""
        values = _bound(compare, arguments, named)
        shared = {name: values[name] for name in (*CONSTRAINTS, "seed", "embedding")}
        methods = DEFAULT_METHODS if values["methods"] is None else values["methods"]
        lines = lines_of(methods, shared, values["options"], _concepts(values))
        return cls._of(schema, values, list(lines.values()), is_aimed=lambda line: takes_target(line.method))

    @classmethod
    def _of(cls, schema: Features | None, values: dict[str, Any], lines: list[Line], is_aimed: Any) -> EarlyChecks:
        has_target = TargetArgument.parse(values["target"], values["overlap"], is_again=True) is not None
        NearArgument.parse(values["exclude_near"])
        for name in ("max_length", "batch_size"):
            check_int(name, values[name], optional=name == "max_length")
        embeddings, constraints, keep = set[str](), list[ConstraintArguments](), set[str]()
        for line in lines:
            shared = dict(line.shared)
            cuts = Cuts(values["threshold"], values["top"], values["max_share"], shared.pop("embedding"))
            own = has_target and is_aimed(line)
            seed = shared.pop("seed")
            checked = without_rows(
                values["budget"], line.method, line.options, seed=seed, cuts=cuts, has_target=own, **shared
            )
            method, arguments = checked[1], checked[4]
            check_budget(checked[3])
            check_known(arguments.extend, None)
            arguments.check()
            constraints.append(arguments)
            embeddings |= {cuts.embedding} if cuts.embedding is not None else set()
            keep |= {"state"} if method.needs_vectors and cuts.embedding is None else set()
        checks = cls(values, frozenset(embeddings), tuple(constraints), tuple(sorted(keep)))
        checks._check_sae(schema, lines)
        return checks

    def _check_sae(self, schema: Features | None, lines: list[Line]) -> None:
        """Check that the SAE can be read, and has the features that rules name, where it is the SAE of the rows."""
        sae = self.arguments["sae"]
        if sae is None and (schema is None or "sae_ids" in schema):
            return
        rules = [line.concepts for line in lines if line.concepts.are_passed]
        if rules:
            names = any(concepts.has_names for concepts in rules)
            vocabulary = Vocabulary.of(self.arguments["labels"], None, sae, needs_names=names)
            for concepts in rules:
                concepts.rules(vocabulary)
        elif sae is not None:
            from ..sae.loading import load_sae  # needs torch, which encoding will need too

            load_sae(sae, encoder_only=True)

    def check_head(self, head: Dataset) -> None:
        """Check the columns that the arguments name, by the first rows.

        Raises:
            TypeError, ValueError: A column is missing, or holds something else than it must.
        """
        for constraints in self.constraints:
            check_known(constraints.extend, head)
            constraints.check_columns(head, len(head))
        for embedding in self.embeddings:
            FeatureMatrix.from_vectors(head, embedding)
        how = {name: self.arguments[name] for name in ("text", "max_length")}
        codes = available_codes(head, self.keep, self.arguments["sae"], **how)
        needs_text = self.arguments["sae"] is not None or not self.embeddings
        if codes is None and needs_text and not is_encoded(head):
            from ..encoding.text import find_text

            find_text(head, self.arguments["text"])


def check_engine(engine: Any) -> None:
    """Check the argument `engine`; a cluster of Ray is left alone, since that would be started for nothing.

    Raises:
        TypeError, ValueError: There is no such engine, or one process only for "processes".
        RuntimeError: The processes have different versions.
    """
    if (chosen := engine_of(engine)) == "processes":
        with opened(chosen):
            pass


def check_budget(budget: Budget) -> None:
    """Check that a budget in rows is positive.

    Raises:
        ValueError: It is not.
    """
    if budget.unit is None and not budget.is_fraction and budget.amount < 1:
        raise ValueError(f"`budget={budget.amount}` must be 1 row or more, or a fraction such as 0.1")


def _bound(function: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, defaults included; that of the rows stands for rows to come."""
    call = signature(function).bind(None, *arguments, **named)
    call.apply_defaults()
    return dict(call.arguments)


def _concepts(values: Mapping[str, Any]) -> ConceptArguments:
    return ConceptArguments(*(values[name] for name in ("avoid", "require", "require_all", "boost", "labels")))
