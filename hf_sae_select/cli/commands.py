"""The table of commands: which function each is a twin of, and what becomes of its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import outputs
from .signatures import OPTIONS, Argument, Signature, signature_of

OK, DIFFERS, UNKNOWN, INTERRUPTED = 0, 1, 2, 130

Write = Callable[[Any, Path, Callable[[], None]], None]
Data = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """Say how the result of a function is printed, and how it is written to a file."""

    text: Callable[[Any], str] = str
    data: Callable[[Any], Data] = lambda value: {"result": str(value)}
    """What `--json` prints."""
    write: Write | None = None
    suffixes: tuple[str, ...] = ()
    """The types of files that can hold it; "" is a folder."""
    code: Callable[[Any], int] = lambda value: OK
    has_rows: bool = False
    """Whether it is a Dataset, whose columns a file must be able to hold."""


@dataclass(frozen=True)
class Command:
    """A command of the command line."""

    name: str
    function: str
    """The public function that it is a twin of."""
    result: Result
    out: str = "out"
    """The argument of the function that is the file to write, or else `out`, an option of the command line."""
    needs_out: bool = False
    """Whether the result would be lost without a file."""
    subset: str = "subset"
    """The argument that is a subset, which finds its selection and its pool again."""
    positional: tuple[str, ...] = ()
    """Arguments that may do without their names, beside those without a default."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Names on the command line of arguments that would be taken for others."""
    aim: str = ""
    """What an error says that it cannot do; by default the name."""
    note: str = ""
    """What the help says of the command line alone."""
    may_lack: tuple[str, ...] = ()
    """Arguments without a default that a receipt may fill in."""
    error_data: Mapping[str, Any] = field(default_factory=dict)
    """What the JSON of an error has, beside the error."""
    takes_place: bool = False
    """Whether the function reads the rows where they are, and takes their place."""

    @property
    def signature(self) -> Signature:
        """The signature of the function."""
        return signature_of(self.function)

    @property
    def rows_argument(self) -> str | None:
        """The argument whose rows `--split`, `--config-name` and `--revision` are of."""
        names = [argument.name for argument in self.signature.arguments]
        return next((name for name in ("dataset", "texts") if name in names), None)

    @property
    def positional_arguments(self) -> tuple[Argument, ...]:
        """The arguments that may do without their names."""
        arguments = self.signature.arguments
        return tuple(argument for argument in arguments if argument.is_required or argument.name in self.positional)

    @property
    def usage(self) -> str:
        """How the command is called; brackets are around what may be left out."""
        names = {argument: argument.name.upper().replace("_", "-") for argument in self.positional_arguments}
        must = [argument.is_required and argument.name not in self.may_lack for argument in names]
        words = [name if needed else f"[{name}]" for name, needed in zip(names.values(), must, strict=True)]
        return " ".join([self.name, *words, "[OPTIONS]"])

    @property
    def writes(self) -> bool:
        """Tell whether the command line writes the result to a file."""
        return self.result.write is not None

    def name_of(self, argument: Argument) -> str:
        """Return the name of an argument on the command line, without hyphens."""
        if argument.annotation == OPTIONS:
            return "option"
        return self.renamed.get(argument.name, argument.name)


def _rows_text(dataset: Any) -> str:
    from ..concepts.markup import clean

    return f"{len(dataset):,} rows; columns: {', '.join(map(clean, dataset.column_names))}"


def _rows_data(dataset: Any) -> Data:
    return {"rows": len(dataset), "columns": dataset.column_names}


def _subset_text(subset: Any) -> str:
    selection = subset.sae_selection
    return "\n".join([repr(selection), *(_target_lines(selection) if selection.target else [])])


def _target_lines(selection: Any) -> list[str]:
    """Say what a selection was made towards, and how near it is to that."""
    from ..concepts.markup import clean
    from ..concepts.target_facts import distances_of, missing_sentence, overlap_sentence

    target = selection.target
    options = ", ".join(f"{name}={value!r}" for name, value in target["rule"]["options"].items())
    lines = [f"towards the target by {target['rule']['method']}({options}):"]
    for part in target["parts"]:
        name = f"{clean(part['name'])}: " if part["name"] else ""
        blank = f", {part['blank']:,} of them blank" if part["blank"] else ""
        lines.append(f"  {name}{part['rows']:,} rows{blank}, {part['share']:.0%} of the budget, {part['sha256'][:12]}")
    lines += [
        f"  distance of {rows}: {features} in features, {kernel} by the kernel"
        for rows, features, kernel in distances_of(target)
    ]
    return lines + [f"  {line}" for line in (missing_sentence(target, None), overlap_sentence(target)) if line]


def _subset_data(subset: Any) -> Data:
    return _selection_data(subset.sae_selection)


def _selection_data(selection: Any) -> Data:
    names = (
        "method",
        "parameters",
        "pool_rows",
        "indices",
        "gains",
        "round_starts",
        "covered",
        "pool_coverage",
        "left_out",
        "target",
    )
    return {"rows": len(selection)} | {name: getattr(selection, name) for name in names}


def _selections_data(value: Any) -> Data:
    if not isinstance(value, dict):
        return _selection_data(value)
    return {"splits": {split: _selection_data(selection) for split, selection in value.items()}}


def _write_selection(value: Any, out: Path, beside: Callable[[], None]) -> None:
    if isinstance(value, dict):
        raise ValueError(f"`out={str(out)!r}` holds one selection; pass `--split`, one of: {', '.join(value)}")
    outputs.write_saved(value, out, beside)


def _unique_text(dataset: Any) -> str:
    removals = dataset.sae_removals
    blank = f"; {removals.blank_rows:,} rows without text stay" if removals.blank_rows else ""
    return f"{_rows_text(dataset)}\n{removals!r}{blank}"


def _unique_data(dataset: Any) -> Data:
    removals = dataset.sae_removals
    pairs: list[Data] = removals.to_pandas().to_dict("records")
    counts = {"pool_rows": removals.pool_rows, "blank_rows": removals.blank_rows, "counts": removals.counts}
    return _rows_data(dataset) | counts | {"parameters": removals.parameters, "removed": pairs}


def _table_data(table: Any) -> Data:
    return {"methods": _lines(table)}


def _lines(table: Any) -> list[Data]:
    lines: list[Data] = table.rename_axis("method").reset_index().to_dict("records")
    return lines


def _write_table(table: Any, out: Path, beside: Callable[[], None]) -> None:
    from datasets import Dataset

    outputs.write_rows(Dataset.from_list(_lines(table)), out, beside)


def _sae_data(sae: Any) -> Data:
    return {"config": asdict(sae.config)}


def _quality_text(quality: Any) -> str:
    return "\n".join(f"{name}: {value:.6g}" for name, value in asdict(quality).items() if value is not None)


def _check_data(check: Any) -> Data:
    return asdict(check) | {"agrees": check.agrees, "better": check.better, "is_sure": check.is_sure}


def _labels_data(labels: Any) -> Data:
    names = {str(feature): labels.name(feature) for feature in labels.named}
    return {"d_sae": labels.d_sae, "named": len(labels.named), "metadata": labels.metadata, "names": names}


def _contrast_data(contrast: Any) -> Data:
    return dict(contrast.to_dict())


def _write_contrast(contrast: Any, out: Path, beside: Callable[[], None]) -> None:
    from datasets import Dataset

    outputs.write_rows(Dataset.from_pandas(contrast.to_pandas(), preserve_index=False), out, beside)


def _reasons_text(reasons: Any) -> str:
    """Return the sentences of each reason, below the beginning of the row's text where that was read."""
    from ..concepts.evidence import Reason
    from ..concepts.payload import excerpt

    several = [reasons] if isinstance(reasons, Reason) else reasons
    return "\n".join(f"“{excerpt(reason.text, 200)}”\n{reason}" if reason.text else str(reason) for reason in several)


def _reasons_data(reasons: Any) -> Data:
    dicts = reasons.to_dict()
    return {"reasons": dicts if isinstance(dicts, list) else [dicts]}


def _commit_data(commit: Any) -> Data:
    return {"commit": commit.oid, "url": commit.commit_url, "pull_request": commit.pr_url}


ROWS = Result(_rows_text, _rows_data, outputs.write_rows, outputs.SUFFIXES, has_rows=True)
SUBSET = Result(_subset_text, _subset_data, outputs.write_rows, outputs.SUFFIXES, has_rows=True)
UNIQUE = Result(_unique_text, _unique_data, outputs.write_rows, outputs.SUFFIXES, has_rows=True)
TABLE = Result(repr, _table_data, _write_table, outputs.SUFFIXES[:-1])
SAE = Result(repr, _sae_data, outputs.write_sae, ("",))
SELECTION = Result(repr, _selections_data, _write_selection, (".json",))
QUALITY = Result(_quality_text, asdict)
L0 = Result(str, _check_data, code=lambda check: DIFFERS if check.agrees is False else OK)
LABELS = Result(repr, _labels_data, outputs.write_saved, (".parquet",))
CONTRAST = Result(repr, _contrast_data, _write_contrast, (".parquet", ".jsonl"))
REASONS = Result(_reasons_text, _reasons_data)
WHY_NOT = Result(str, lambda why: why.to_dict())
FILE = Result(str, lambda file: {"file": str(file)})
FOLDER = Result(str, lambda folder: {"folder": str(folder)})
PLACE = Result(str, lambda place: {"place": place})
COMMIT = Result(lambda commit: str(commit.pr_url or commit.commit_url), _commit_data)
ENVIRONMENT = Result(str, lambda value: value.to_dict())
VERIFICATION = Result(str, lambda value: value.to_dict(), code=lambda value: OK if value else DIFFERS)

COMMANDS: Mapping[str, Command] = {
    command.name: command
    for command in (
        Command("encode", "encode", ROWS),
        Command("encode-files", "encode_files", PLACE, aim="encode into files", takes_place=True),
        Command("select", "select", SUBSET),
        Command(
            "compare",
            "compare",
            TABLE,
            note="For a subset that `select --out` wrote, leave the budget out: then its method is compared on the "
            "rows that the subset was selected from.",
            may_lack=("budget",),
        ),
        Command("dedup", "dedup", UNIQUE, aim="remove duplicates"),
        Command("missing", "missing_features", CONTRAST, aim="say what is missing"),
        Command("diff", "diff", CONTRAST, aim="say what changed"),
        Command("find-features", "find_features", CONTRAST, aim="find features"),
        Command("explain", "explain", REASONS),
        Command("why-not", "why_not", WHY_NOT, aim="tell why not"),
        Command("report", "report", FILE, out="path"),
        Command("atlas", "export_atlas", FILE, out="path", subset="dataset", aim="write the map"),
        Command("label", "label_features", LABELS),
        Command("train", "train_sae", SAE, needs_out=True, renamed={"config": "training_config"}),
        Command("evaluate", "evaluate_sae", QUALITY),
        Command("check-l0", "check_l0", L0, aim="check the SAE", positional=("texts",)),
        Command("load", "load_sae", SAE, positional=("source",), renamed={"config": "sae_config"}),
        Command("stage", "stage", FOLDER, out="folder"),
        Command("push", "push", COMMIT),
        Command("publish", "publish", COMMIT),
        Command("load-selection", "load_selection", SELECTION, aim="load the selection"),
        Command("verify", "verify", VERIFICATION, error_data={"verified": None}),
        Command("env", "environment", ENVIRONMENT, aim="tell the versions"),
    )
}
