"""What the Hub says of a card's metadata: the reasons why it refuses a card, and what it only warns of.

The Hub's own rules are not public. Here are those that a card of this package could break, of which its documentation
or a message that it gave to somebody tells. Other fields may be anything.
"""

import re

LICENSES = (  # from an answer of the Hub (huggingface_hub issue 4218, May 2026); the documented list lacks the newest
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m "
    "afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 "
    "cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 "
    "cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl "
    "gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr "
    "mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr "
    "deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 "
    "grok2-community gemma unknown other"
).split()
SIZES = "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B 1B<n<10B 10B<n<100B 100B<n<1T n>1T".split()


def problems(kind, card):
    """Return the errors and the warnings that the card of a "model" or "dataset" gets."""
    if card is None or card == {}:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(card, dict):
        return ["The YAML metadata of your README.md is invalid."], []
    rules = ANY | KINDS[kind]
    sizes = card.get("size_categories")
    unofficial = [size for size in sizes if size not in SIZES] if isinstance(sizes, list) else []
    warnings = [f'The size_categories "{size}" is not in the official list: {", ".join(SIZES)}' for size in unofficial]
    return [error for name in rules if name in card for error in rules[name](name, card[name])], warnings


# A rule yields what is wrong with the value of that name. Null is a value, and of the wrong type.


def text(name, value):
    if not isinstance(value, str):
        yield f'"{name}" must be a string'


def license_id(name, value):
    if value not in LICENSES:
        yield f'"{name}" must be one of [{", ".join(LICENSES)}]'


def matching(pattern, message):
    def rule(name, value):
        yield from text(name, value)
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            yield f'"{name}" with value "{value}" is not valid. {message}'

    return rule


def array(item):
    def rule(name, value):
        if not isinstance(value, list):
            yield f'"{name}" must be an array'
            return
        for place, one in enumerate(value):
            yield from item(f"{name}[{place}]", one)

    return rule


def one_or_array(item):
    return lambda name, value: (array(item) if isinstance(value, list) else item)(name, value)


def mapping(required, **rules):
    def rule(name, value):
        if not isinstance(value, dict):
            yield f'"{name}" must be of type object'
            return
        yield from (f'"{name}.{key}" is required' for key in required if key not in value)
        for key in rules.keys() & value.keys():
            yield from rules[key](f"{name}.{key}", value[key])

    return rule


SPLIT = mapping(["split", "path"], split=matching(r"\w+(\.\w+)*", "Use the name of a split."), path=one_or_array(text))


def data_files(name, value):
    if not isinstance(value, str):
        yield from array(lambda name, one: (SPLIT if isinstance(one, dict) else text)(name, one))(name, value)


ID = matching(r"[\w.-]+(/[\w.-]+)?", "Use an id from https://hf.co.")  # neither spaces nor the path of a folder
LANGUAGE = matching("[a-z]{2,3}|code|multilingual", "It must be a two or three letter code, or a special value.")
CONFIG = mapping(["config_name"], config_name=text, data_files=data_files)

ANY = {
    "license": one_or_array(license_id),
    "license_name": text,
    "license_link": text,
    "language": one_or_array(LANGUAGE),
    "library_name": text,
    "tags": array(text),
}
KINDS = {
    "model": {"base_model": one_or_array(ID), "datasets": one_or_array(ID)},
    "dataset": dict.fromkeys(["task_categories", "size_categories", "source_datasets"], array(text))
    | {"pretty_name": text, "configs": array(CONFIG)},
}
