"""The commands as an app of cyclopts: arguments, types and help come from signatures and docstrings."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import App, Parameter
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict

from .. import __version__
from .commands import COMMANDS, OK, UNKNOWN, Command
from .jobs import Job, Origin
from .receipts import RUN, has_receipt
from .runs import HUB_OPTIONS, read_run
from .signatures import OPTIONS, Argument
from .terminal import as_json, is_printed, quiet_libraries
from .values import form_of, receipt_of

NAME = "hf-sae-select"
SITE = "https://hf-sae-select.github.io/hf-sae-select/"  # the pages that help texts call `docs/name.md`
OWN = "_"  # ends names of options that no function has: `config` is an argument of some
WHAT = "Select small, representative training subsets by the features of a sparse autoencoder."
EXIT_CODES = (
    "exit codes: 0 if it is done and nothing differs from a record, 1 if something differs from its record, 2 if it "
    "cannot be done or told: an argument is wrong, something is not installed, the Hub failed, or the result cannot "
    "be printed; 130 after Ctrl-C"
)
FORMS = (
    "Rows are a file (.parquet, .jsonl, .json, .csv, .txt), a folder of save_to_disk, or owner/name[:split] of the "
    "Hub. Lists are repeated options; numbers of rows and names of methods may also have commas between them. "
    f"Mappings are name=value, repeated, or JSON. A function is file.py:name. All of it: {SITE}cli.html; "
    f"docs/name.md is the page name.html there."
)
HELP = {"--help", "-h", "--version"}
SETTINGS = ("json", "debug", "overwrite", "config")  # of one call: a run file does not have them
OF_COMMAND_LINE = {  # options that no function has: type and help
    "out": (
        Path,
        "File or folder to write the result to. The file that repeats the run is written beside it.",
    ),
    "overwrite": (bool, "Replace files that exist."),
    "split": (str, "Split of the dataset."),
    "config_name": (str, "Config of the Hub dataset."),
    "revision": (str, "Branch, tag or commit of the Hub dataset. The run file names the commit."),
    "config": (Path, "A YAML file with these arguments. Those of the command line have precedence."),
    "json": (bool, "Print the result, or an error, as one JSON object."),
    "debug": (bool, "Print the traceback of an error."),
}


def run(arguments: Sequence[str]) -> int:
    """Run a command, and return its exit code; see `main`."""
    words = list(arguments)
    with quiet_libraries():
        try:
            if not words:
                names = ", ".join(COMMANDS)
                raise cyclopts.CycloptsError(msg=f"a command is missing; `--help` describes them: {names}")
            code = make_app()(words, exit_on_error=False, print_error=False, result_action="return_value")
        except (cyclopts.CycloptsError, ValueError, OSError) as error:
            if HELP & set(words):
                is_printed(f"the help cannot be printed: {error}", sys.stderr)
            else:
                _show_usage(words, _problem(error))
            raise SystemExit(UNKNOWN) from None
        except SystemExit as stopped:  # rich ends so where the reader of a help stops early
            raise SystemExit(OK if HELP & set(words) else stopped.code) from None
    if not isinstance(code, int):  # help, version or completion was printed
        raise SystemExit(OK)
    return code


def _problem(error: Exception) -> str:
    """Return what is wrong with a call."""
    if isinstance(error, cyclopts.MissingArgumentError) and error.argument is not None and error.keyword is None:
        name = error.argument.name
        return f"{name.lstrip('-').upper()} is missing; pass it in its place, or as `{name}`"
    return str(error)


def _show_usage(words: Sequence[str], problem: str) -> None:
    """Say how the command is called, and what is wrong."""
    command = COMMANDS.get(words[0]) if words else None
    if "--json" in words:
        is_printed(as_json({**(command.error_data if command else {}), "error": problem}), sys.stdout)
    usage = command.usage if command else "COMMAND [OPTIONS]"
    is_printed(f"usage: {NAME} {usage}\n{problem}", sys.stderr)


def make_app() -> App:
    """Return the app with all commands."""
    origin = Origin()
    app = App(
        name=NAME,
        help=WHAT,
        help_format="plaintext",
        help_epilogue=f"{FORMS}\n\n{EXIT_CODES}",
        version=f"{NAME} {__version__}",
        config=(partial(_configured, origin),),
        suppress_keyboard_interrupt=False,
    )
    for command in COMMANDS.values():
        app.command(_twin(command, origin), name=command.name, usage=f"Usage: {NAME} {command.usage}")
    app.register_install_completion_command()
    return app


def _twin(command: Command, origin: Origin) -> Callable[..., int]:
    """Return a function of the same arguments, whose values are words."""
    positional_names = [argument.name for argument in command.positional_arguments]
    own = [name for name in OF_COMMAND_LINE if _has(command, name)]
    names = {argument.name: command.name_of(argument) for argument in command.signature.arguments}
    names |= {f"{name}{OWN}": name for name in own if name not in SETTINGS}

    def run(*positional: Any, **passed: Any) -> int:
        passed |= dict(zip(positional_names, positional, strict=False))
        settings = {name for name in SETTINGS if passed.pop(f"{name}{OWN}", None)}
        return Job(command, {names[name]: words for name, words in passed.items()}, settings, origin).run()

    parameters = sorted(map(partial(_parameter, command), command.signature.arguments), key=lambda item: item.kind)
    run.__signature__ = inspect.Signature([*parameters, *map(_own_parameter, own)])  # type: ignore[attr-defined]
    docstring = command.signature.docstring.replace(f"\n    {OPTIONS}", "\n    ")
    run.__doc__ = docstring.replace("\n\n", f"\n\n{command.note}\n\n", 1) if command.note else docstring
    run.__name__ = command.name
    return run


def _has(command: Command, option: str) -> bool:
    """Tell whether a command has an option that no function has."""
    if option in HUB_OPTIONS:
        return command.rows_argument is not None
    return command.writes or option not in ("out", "overwrite")


def _parameter(command: Command, argument: Argument) -> inspect.Parameter:
    """Return an argument of the function as cyclopts reads it; help comes from the docstring."""
    kind = form_of(argument.annotation).kind
    name = "--" + command.name_of(argument).replace("_", "-")
    parameter = _read_as(kind, name=name, negative_iterable="", show_default=_shown(argument))
    is_positional = argument in command.positional_arguments
    place = inspect.Parameter.POSITIONAL_OR_KEYWORD if is_positional else inspect.Parameter.KEYWORD_ONLY
    if argument.is_required:
        return inspect.Parameter(argument.name, place, annotation=_annotated(kind, parameter))
    return inspect.Parameter(argument.name, place, default=None, annotation=_annotated(_optional(kind), parameter))


def _annotated(kind: Any, parameter: Parameter) -> Any:
    return Annotated[kind, parameter, Unchecked]


class Unchecked:
    """Let pydantic leave a value as it is. Where a library has imported pydantic, cyclopts has it check defaults too.

    A flag that was not passed is None, which is no bool.
    """

    @staticmethod
    def __get_pydantic_core_schema__(kind: Any, handler: Any) -> Any:
        from pydantic_core import core_schema  # pydantic asks, so it is there

        return core_schema.any_schema()


def _optional(kind: Any) -> Any:
    """Return the type of an option that may be left out; a flag has no value, which shells must know."""
    return bool if kind is bool else kind | None


def _read_as(kind: Any, **options: Any) -> Parameter:
    """Return how cyclopts reads a type. Words that may name files stay as they are; shells complete them."""
    if kind is int:
        options["converter"] = _whole_number
    if kind is not Path:
        return Parameter(**options)
    return Parameter(converter=lambda _, tokens: tokens[0].value, metavar="PATH", **options)


def _whole_number(_: Any, tokens: Sequence[Any]) -> int | None:
    """Return a number; cyclopts rounds."""
    word = tokens[0].value
    if word.lower() in ("none", "null"):
        return None
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"{word!r} is no whole number") from None


def _shown(argument: Argument) -> Any:
    """Return what shows the default in the help; nothing where the docstring says it in words."""
    default = argument.default
    if default in (None, "()"):
        return False
    shown = default.strip("(),").replace("'", "") if default.startswith("(") else default  # as its words are written
    return lambda _: shown


def _own_parameter(name: str) -> inspect.Parameter:
    kind: Any
    kind, words = OF_COMMAND_LINE[name]
    names = [f"--{name.replace('_', '-')}", *(["-o"] if name == "out" else [])]
    parameter = _read_as(kind, name=names, negative="", help=words, show_default=False)
    annotation = _annotated(_optional(kind), parameter)
    return inspect.Parameter(f"{name}{OWN}", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _configured(origin: Origin, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill in the arguments that the command line does not have from the file of `--config`."""
    command = COMMANDS.get(commands[0]) if commands else None
    if command is None:
        return
    passed = {argument.name: argument for argument in arguments if argument.tokens}
    rows = passed.get(f"--{command.rows_argument}")
    file = Path(passed["--config"].tokens[-1].value) if "--config" in passed else None
    if file is None and command.name == "compare" and rows and "--budget" not in passed and has_receipt(_word(rows)):
        origin.subset = _word(rows)  # compares on the rows that it was selected from
        file = receipt_of(Path(origin.subset), RUN)
        rows.tokens.clear()
        rows = None
    if file is None:
        return
    words = read_run(file, command)
    if rows is not None:  # of other rows than those of the file
        words = {name: value for name, value in words.items() if name not in HUB_OPTIONS}
    if origin.subset is not None:
        words.pop("out", None)  # where to write is the user's choice
        origin.names = {argument.name for argument in arguments if not argument.tokens}
    Dict(words, use_commands_as_keys=False, source=str(file))(app, commands, arguments)


def _word(argument: Any) -> str:
    return str(argument.tokens[-1].value)
