"""What the Hub says of the metadata of a card: the reasons why it refuses it, and what it only warns of.

The Hub's own rules are not public. What is called "seen" below was read off messages that the Hub gave to people;
"documented" is in its docs, which do not say whether it refuses what is otherwise; the rest is guessed. Where we know
of no rule there is none here: other fields may be anything, a tag may be long, and a repo need not exist.
"""

import re

LICENSES = (  # seen (huggingface_hub issue 4218, May 2026); the documented list lacks the newest
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
TASKS = (  # documented: the pipelines of huggingface.js, and those that the Hub has gained and lost since
    "biology text-classification token-classification table-question-answering question-answering "
    "zero-shot-classification translation summarization feature-extraction text-generation text2text-generation "
    "fill-mask sentence-similarity text-to-speech text-to-audio automatic-speech-recognition audio-to-audio "
    "audio-classification audio-text-to-text voice-activity-detection depth-estimation image-classification "
    "object-detection image-segmentation text-to-image image-to-text image-to-image image-to-video "
    "unconditional-image-generation video-classification reinforcement-learning robotics tabular-classification "
    "tabular-regression tabular-to-text table-to-text multiple-choice text-ranking text-retrieval "
    "time-series-forecasting text-to-video image-text-to-text image-text-to-image image-text-to-video "
    "visual-question-answering document-question-answering zero-shot-image-classification graph-ml mask-generation "
    "zero-shot-object-detection text-to-3d image-to-3d image-feature-extraction video-text-to-text video-to-video "
    "keypoint-detection visual-document-retrieval any-to-any other"
).split()
SIZES = (  # documented; "unknown" is in the list that datasets comes with
    "unknown n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B 1B<n<10B 10B<n<100B 100B<n<1T n>1T"
).split()
COLORS = "red yellow green blue indigo purple pink gray".split()  # seen
OFFICIAL = {"task_categories": TASKS, "pipeline_tag": TASKS, "size_categories": SIZES}


def problems(kind, card):
    """The errors and the warnings that a card of a "model", "dataset" or "space" gets."""
    if card is None or card == {}:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(card, dict):
        message = "The YAML metadata of your README.md is invalid."  # seen, both
        return ['"value" must be of type object' if isinstance(card, list) else message], []
    rules = ANY | KINDS.get(kind, {})
    return [error for name in rules if name in card for error in rules[name](name, card[name])], list(unofficial(card))


def unofficial(card):
    """Warnings: seen for task_ids (whose list is not here) and pipeline_tag, guessed for sizes."""
    for name, known in OFFICIAL.items():
        values = card.get(name)
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, str) and value not in known:
                yield f'The {name} "{value}" is not in the official list: {", ".join(known)}'


# Rules: what is wrong with the value of that name. Null is a value, and of the wrong type (seen: `tags:`).


def typed(word, *types):
    def rule(name, value):
        if type(value) not in types:  # True is an int to isinstance
            yield f'"{name}" must be a {word}'

    return rule


text, number, boolean = typed("string", str), typed("number", int, float), typed("boolean", bool)


def one_of(choices):
    def rule(name, value):
        if value not in choices:
            yield f'"{name}" must be one of [{", ".join(choices)}]'

    return rule


def matching(pattern, message):
    def rule(name, value):
        yield from text(name, value)
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            yield f'"{name}" with value "{value}" {message}'

    return rule


def each(item):
    def rule(name, value):
        if isinstance(value, list):
            for place, one in enumerate(value):
                yield from item(f"{name}[{place}]", one)
        else:
            yield f'"{name}" must be an array'

    return rule


def one_or_each(item):
    return lambda name, value: (each(item) if isinstance(value, list) else item)(name, value)


def mapping(required="", **rules):
    def rule(name, value):
        if isinstance(value, dict):
            yield from (f'"{name}.{key}" is required' for key in required.split() if key not in value)
            for key in [key for key in rules if key in value]:
                yield from rules[key](f"{name}.{key}", value[key])
        else:
            yield f'"{name}" must be of type object'

    return rule


def data_files(name, value):
    """Documented; datasets refuses a mapping that is not in a list, and names that no split can have."""
    split = mapping("split path", split=matching(r"\w+(\.\w+)*", "is not the name of a split"), path=one_or_each(text))
    if not isinstance(value, str):
        yield from each(lambda name, one: (split if isinstance(one, dict) else text)(name, one))(name, value)


def configs(name, value):
    """Seen: an array of objects. Guessed: what is twice; datasets loses such a config and refuses such a default."""
    config = mapping("config_name", config_name=text, data_files=data_files, data_dir=text, default=boolean)
    yield from each(config)(name, value)
    found = [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
    names = [one["config_name"] for one in found if "config_name" in one]
    if any(names.count(one) > 1 for one in names):
        yield f'"{name}" has several with the same config_name'
    if sum(one.get("default") is True for one in found) > 1:
        yield f'"{name}" has several defaults'


ID = r"[\w.-]+(/[\w.-]+)?"  # seen: neither spaces nor the path of a folder; the rest of the pattern is guessed
MODEL = matching(ID, "is not valid. Use a model id from https://hf.co/models.")
DATASET = matching(ID, "is not valid. If possible, use a dataset id from https://hf.co/datasets.")
LANGUAGE = matching(  # seen; that any two or three letters will do is lenient, and there may be other special values
    "[a-z]{2,3}|code|multilingual",
    "is not valid. It must be an ISO 639-1, 639-2 or 639-3 code (two/three letters), or a special value like "
    '"code", "multilingual". If you want to use BCP-47 identifiers, you can specify them in language_bcp47.',
)
RESULT = mapping(  # documented; seen for the config
    task=mapping("type", type=text),
    dataset=mapping("type name", type=text, name=text, config=text, split=text, revision=text),
    metrics=each(mapping("type value", type=text)),
)
SPLIT = mapping("name", name=text, num_bytes=number, num_examples=number)
FEATURES = each(mapping("name", name=text))
INFO = mapping(config_name=text, features=FEATURES, splits=each(SPLIT), download_size=number, dataset_size=number)

STRINGS = "pretty_name library_name pipeline_tag license_name license_link license_details"
LISTS = (  # documented; seen for task_categories, and that size_categories has strings
    "task_categories task_ids size_categories source_datasets annotations_creators language_creators multilinguality"
)
ANY = dict.fromkeys(STRINGS.split(), text) | {  # that `license: other` should have a name and a link is no rule
    "license": one_or_each(one_of(LICENSES)),
    "language": one_or_each(LANGUAGE),
    "tags": each(text),
}
KINDS = {
    "model": {
        "base_model": one_or_each(MODEL),
        "datasets": one_or_each(DATASET),
        "metrics": one_or_each(text),
        "widget": each(mapping()),  # seen: an array
        "model-index": each(mapping(name=text, results=each(RESULT))),
    },
    "dataset": dict.fromkeys(LISTS.split(), each(text)) | {"configs": configs, "dataset_info": one_or_each(INFO)},
    "space": {
        "title": text,
        "sdk": one_of("gradio streamlit docker static".split()),
        "colorFrom": one_of(COLORS),
        "colorTo": one_of(COLORS),
        "short_description": matching("(?s).{0,60}", "is longer than 60 characters"),  # seen
        "models": each(MODEL),
        "datasets": each(DATASET),
    },
}
