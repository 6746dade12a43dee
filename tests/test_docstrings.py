"""The docstrings of everything public: griffe reads them, and they say what the signatures say."""

import ast
import builtins
import dataclasses
import inspect
import re
import sys
from functools import cache, cached_property

import griffe
import pytest
from datasets import Dataset

import hf_sae_select
from hf_sae_select.features import metrics

TWO_SENTENCES = re.compile(r"(?<!e\.g)(?<!i\.e)[.!?] [A-Z]")
ARGUMENT = re.compile(r"(?P<type>.*?)(?P<optional>, \*optional\*)?(?:, defaults to `(?P<default>.*)`)?", re.DOTALL)
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def sections(docstring):
    """Return the text, the arguments, the results and the exceptions of a docstring; None for a missing section."""
    options = {"returns_named_value": False, "returns_multiple_items": False, "warnings": False}
    parsed = griffe.parse(griffe.Docstring(inspect.cleandoc(docstring)), "google", **options)
    values = {section.kind.value: section.value for section in reversed(parsed)}  # the first text is the summary
    return [values.get(kind) for kind in ("text", "parameters", "returns", "raises")]


def summary_problems(docstring):
    if not docstring:
        yield "no docstring"
        return
    first, *rest = inspect.cleandoc(docstring).splitlines()
    if not first.endswith(".") or TWO_SENTENCES.search(first) or (rest and rest[0]):
        yield f"the first line is not one sentence with a full stop and an empty line after it: {first!r}"


def argument_problems(documented, parameter):
    """Compare what a docstring says of an argument with the parameter of the signature."""
    name, variadic = parameter.name, parameter.kind in VARIADIC
    if not documented.description.startswith("\n") or not documented.description.strip():
        yield f"{name}: the description does not stand on lines of its own"
    said = ARGUMENT.fullmatch(str(documented.annotation or ""))
    if "`" not in said["type"]:
        yield f"{name}: no type in backticks"
    has_default = parameter.default is not parameter.empty
    if bool(said["optional"]) != has_default and not variadic:
        yield f"{name}: *optional* must appear exactly when there is a default"
    if (said["default"] is not None) != (has_default and parameter.default is not None):
        yield f"{name}: 'defaults to' must appear exactly when the default is not None"
    elif said["default"] is not None and not is_value(said["default"], parameter.default):
        yield f"{name}: 'defaults to `{said['default']}`', but the default is `{parameter.default!r}`"


def is_value(text, value):
    """Whether `text` is the repr of `value`, or another literal for it (double quotes, underscores in numbers)."""
    try:
        literal = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text == repr(value)
    return type(literal) is type(value) and literal == value


def arguments_problems(arguments, parameters):
    """Compare the Args section with the parameters that it must have, in their order."""
    arguments = arguments or []
    grouped = [argument.name for argument in arguments if "," in argument.name]
    if grouped:
        yield f"grouped arguments: {grouped}"
    names = [argument.name.lstrip("*") for argument in arguments]
    if names != [parameter.name for parameter in parameters]:
        yield f"Args are {names}, the signature has {[parameter.name for parameter in parameters]}"
        return
    for argument, parameter in zip(arguments, parameters, strict=True):
        yield from argument_problems(argument, parameter)


def raises_problems(raised, namespace):
    for item in raised or []:
        name = str(item.annotation)
        error = namespace.get(name, getattr(builtins, name, None))
        if not (isinstance(error, type) and issubclass(error, BaseException)):
            yield f"Raises: {name} is not an exception class"
        if not item.description.strip():
            yield f"Raises: {name} says nothing"


def problems(docstring, signature, namespace):
    """Return what is wrong with the docstring of a function of that signature, less `self` and `cls`."""
    complaints = list(summary_problems(docstring))
    if not docstring:
        return complaints
    _, arguments, returns, raised = sections(docstring)
    parameters = [parameter for name, parameter in signature.parameters.items() if name not in ("self", "cls")]
    complaints += arguments_problems(arguments, parameters)
    returns_nothing = signature.return_annotation in (None, "None")
    if returns_nothing and returns:
        complaints.append("Returns, but the annotation is None")
    if not returns_nothing and not (returns and str(returns[0].annotation).startswith("`")):
        complaints.append("no Returns section that begins with a type in backticks")
    return complaints + list(raises_problems(raised, namespace))


def function_problems(function):
    return problems(function.__doc__, inspect.signature(function), vars(sys.modules[function.__module__]))


# What is public


def public(namespace):
    return {name: value for name, value in vars(namespace).items() if not name.startswith("_")}


def functions_of(owner):
    """Return the public functions of a class, its class methods included, or of a module."""
    functions = {name: getattr(value, "__func__", value) for name, value in public(owner).items()}
    file = getattr(owner, "__module__", owner.__name__)  # what a module imports is not its own
    functions = {name: value for name, value in functions.items() if getattr(value, "__module__", None) == file}
    return {f"{owner.__name__}.{name}": value for name, value in functions.items() if inspect.isfunction(value)}


EXPORTS = {name: getattr(hf_sae_select, name) for name in sorted(hf_sae_select.__all__)}
CLASSES = {name: value for name, value in EXPORTS.items() if inspect.isclass(value)}
CONSTANTS = [name for name, value in EXPORTS.items() if not callable(value)]
ON_DATASET = {name: value for name, value in sorted(vars(Dataset).items()) if name.startswith("sae_")}
METHODS_ON_DATASET = [name for name, value in ON_DATASET.items() if inspect.isfunction(value)]

FUNCTIONS = {name: value for name, value in EXPORTS.items() if inspect.isfunction(value)}
for owner in (*CLASSES.values(), metrics):
    FUNCTIONS |= functions_of(owner)
PROPERTIES = {
    f"{owner}.{name}": getattr(member, "fget", None) or member.func
    for owner, class_ in CLASSES.items()
    for name, member in public(class_).items()
    if isinstance(member, (property, cached_property))
}
PROPERTIES |= {f"Dataset.{name}": value.fget for name, value in ON_DATASET.items() if isinstance(value, property)}
FIELDS = [
    f"{owner}.{field.name}"
    for owner, class_ in CLASSES.items()
    if dataclasses.is_dataclass(class_)
    for field in dataclasses.fields(class_)
    if not field.name.startswith("_")
]


@cache
def package():
    """Return what griffe reads from the source, where the strings under fields and constants are."""
    return griffe.load("hf_sae_select")


def string_under(name):
    docstring = package()[name].docstring
    return docstring and docstring.value


# The tests


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_documented_as_it_is_called(name):
    assert function_problems(FUNCTIONS[name]) == []


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_documented(name):
    class_ = CLASSES[name]
    complaints = list(summary_problems(class_.__doc__))
    if not dataclasses.is_dataclass(class_):  # the fields of a dataclass have strings of their own
        parameters = list(inspect.signature(class_.__init__).parameters.values())[1:]
        complaints += arguments_problems(sections(class_.__doc__)[1], parameters)
    assert complaints == []


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_is_documented(name):
    assert list(summary_problems(PROPERTIES[name].__doc__)) == []


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_has_a_string_under_it(name):
    docstring = string_under(name)
    assert docstring and docstring.strip().endswith(".")


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_has_a_string_under_it(name):
    assert list(summary_problems(string_under(name))) == []


@pytest.mark.parametrize("name", hf_sae_select.METHODS)
def test_the_options_of_a_method_are_documented(name):
    method = hf_sae_select.METHODS[name]
    assert list(summary_problems(method.function.__doc__)) == []
    arguments = sections(method.function.__doc__)[1] or []
    parameters = inspect.signature(method.function).parameters
    wanted = [parameter for option, parameter in parameters.items() if option in method.options]
    arguments = [argument for argument in arguments if argument.name not in set(parameters) - set(method.options)]
    assert list(arguments_problems(arguments, wanted)) == []


@pytest.mark.parametrize("name", METHODS_ON_DATASET)
def test_a_method_on_dataset_has_the_signature_of_its_function(name):
    method = inspect.signature(ON_DATASET[name])
    function_name = name.removeprefix("sae_").replace("missing", "missing_features")
    function = inspect.signature(getattr(hf_sae_select, function_name))
    assert list(method.parameters.values())[1:] == list(function.parameters.values())[1:]
    assert method.return_annotation == function.return_annotation
    # the arguments are documented once, with the function
    docstring = vars(Dataset)[name].__doc__
    assert list(summary_problems(docstring)) == [] and f"`hf_sae_select.{function_name}`" in docstring


def test_what_is_public_is_looked_at():
    """A change of the package must not leave the tests above without cases."""
    assert {"select", "SparseAutoencoder.encode"} <= set(FUNCTIONS) and "sae_select" in METHODS_ON_DATASET
    assert "SaeConfig.d_in" in FIELDS and "Selection.rounds" in PROPERTIES and "METHODS" in CONSTANTS
    assert f"{metrics.__name__}.coverage" in FUNCTIONS and "SparseAutoencoder.parameters" not in FUNCTIONS


# The checker itself

GOOD = '''
def select(dataset: Dataset, budget: int, seed: int = 0, text: str | None = None, method: str = "match", **options):
    """Do one thing, in one imperative sentence.

    A paragraph where needed. Shapes, units, dtypes; the source where it matters.

    Args:
        dataset (`Dataset`):
            Rows to select from: any columns.
        budget (`int`, `float` or `str`):
            Number of rows to select.

            A second paragraph of it.
        seed (`int`, *optional*, defaults to `0`):
            Seed that orders equal rows.
        text (`str`, *optional*):
            For a default of None there is no "defaults to".
        method (`str`, *optional*, defaults to `"match"`):
            Name of the method (see `METHODS`).
        **options (`Any`):
            The method's.

    Returns:
        `Dataset`: The selected rows, in the order they were picked.

    Raises:
        ValueError: If `budget` is not positive.

    Example:

    ```python
    subset = select(dataset, 3000)
    ```
    """
'''


def problems_of(code):
    namespace = {"Dataset": Dataset}
    exec(code, namespace)
    return problems(namespace["select"].__doc__, inspect.signature(namespace["select"]), namespace)


def test_a_good_docstring_passes():
    assert problems_of(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("sentence.\n", "sentence. Then another.\n", "the first line is not one sentence"),
        ("sentence.\n", "sentence\n", "the first line is not one sentence"),
        ("budget (`int`, `float` or `str`)", "budget, rows (`int`)", "grouped arguments: ['budget, rows']"),
        ("        budget (`int`", "        rows (`int`", "Args are ['dataset', 'rows'"),
        ("dataset (`Dataset`)", "dataset", "dataset: no type in backticks"),
        ("text (`str`, *optional*)", "text (`str`)", "text: *optional* must appear exactly"),
        ("budget (`int`,", "budget (`int`, *optional*, defaults to `1`,", "budget: *optional* must appear exactly"),
        ("defaults to `0`", "defaults to `1`", "seed: 'defaults to `1`', but the default is `0`"),
        ("defaults to `0`", "defaults to `False`", "seed: 'defaults to `False`', but the default is `0`"),
        (", defaults to `0`", "", "seed: 'defaults to' must appear exactly"),
        ("*optional*):", "*optional*, defaults to `None`):", "text: 'defaults to' must appear exactly"),
        (":\n            Seed that", ": Seed that", "seed: the description does not stand on lines of its own"),
        ("Returns:\n        `Dataset`: T", "T", "no Returns section"),
        ("**options):", "**options) -> None:", "Returns, but the annotation is None"),
        ("ValueError:", "ValueError, TypeError:", "Raises: ValueError, TypeError is not an exception class"),
        ("ValueError:", "Dataset:", "Raises: Dataset is not an exception class"),
    ],
)
def test_a_bad_docstring_fails(old, new, problem):
    assert GOOD.count(old) == 1
    assert problem in "\n".join(problems_of(GOOD.replace(old, new)))


def test_no_docstring_fails():
    assert problems(None, inspect.signature(lambda: None), {}) == ["no docstring"]
