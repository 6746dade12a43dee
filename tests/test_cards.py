"""Our section of a README: inserted once, replaced at each push, and surrounded by the user's own text."""

import pytest
import yaml

from hf_sae_select._cards import SECTION_BEGIN, SECTION_END, TEMPLATES, merged, parsed

BEGIN = "<!-- hf-sae-select: one, written anew at each push -->"  # in repos on the Hub: may not change
END = "<!-- end of hf-sae-select: one -->"


def card(text, name="one", metadata="tags:\n- a\n"):
    return f"---\n{metadata}---\n{BEGIN}\n{text}\n{END}\n".replace("one", name)


def test_the_markers_are_those_of_repos_on_the_hub():
    assert (SECTION_BEGIN.format(name="one"), SECTION_END.format(name="one")) == (BEGIN, END)


def test_without_a_readme_the_card_is_the_readme():
    assert merged(card("new"), None) == card("new")


def test_a_readme_without_a_section_gets_one_at_its_end():
    readme = "---\nlicense: mit\n---\n# Mine\n\n\n"
    text = merged(card("new"), readme)
    assert text == f"---\nlicense: mit\ntags:\n- a\n---\n# Mine\n\n{BEGIN}\nnew\n{END}\n"


def test_only_the_section_is_replaced():
    readme = merged(card("old"), "---\nlicense: mit\n---\n# Mine\n") + "\n# After\n"
    assert merged(card("new"), readme) == readme.replace("old", "new")


def test_sections_of_other_names_stay():
    readme = merged(card("first"), card("second", name="two"))
    text = merged(card("third"), readme)
    assert "first" not in text and "second" in text and text.count("<!--") == 4


def test_words_around_the_section_of_an_edited_card_are_inserted_once():
    edited = card("second").replace(BEGIN, f"# Intro\n\n{BEGIN}")
    readme = merged(edited, card("old"))
    assert "old" not in readme and readme.count("# Intro") == 1
    again = merged(edited.replace("second", "third"), readme)
    assert again == readme.replace("second", "third")


@pytest.mark.parametrize("missing", [BEGIN, END])
def test_a_card_without_a_marker_is_refused(missing):
    with pytest.raises(ValueError, match=r"the card lacks the comment that .* our section; restore it: <!--"):
        merged(card("new").replace(missing, ""), card("old"))


def test_a_readme_without_the_end_marker_is_refused():
    with pytest.raises(ValueError, match=f"README.md lacks the comment that ends our section; restore it: {END}"):
        merged(card("new"), card("old").replace(END, ""))


def test_metadata_of_the_readme_take_precedence_and_lists_are_joined():
    readme = "---\nlicense: mit\ntags:\n- mine\n- a\nsize: 1\n---\n"
    text = merged(card("new", metadata="license: odbl\nlanguage: en\ntags:\n- a\n- b\nsize: 2\n"), readme, ["size"])
    assert yaml.safe_load(text.split("---")[1]) == {
        "license": "mit",
        "language": "en",
        "tags": ["mine", "a", "b"],
        "size": 2,
    }


def test_a_config_of_the_same_name_is_replaced():
    old = "configs:\n- config_name: default\n  data_files: old\n- config_name: mine\n  data_files: x\n"
    new = "configs:\n- config_name: default\n  data_files: new\n"
    text = merged(card("new", metadata=new), f"---\n{old}---\n")
    configs = yaml.safe_load(text.split("---")[1])["configs"]
    assert [(config["config_name"], config["data_files"]) for config in configs] == [("mine", "x"), ("default", "new")]


@pytest.mark.parametrize("metadata", ["license: [", "- a", "a: {"])
def test_metadata_that_cannot_be_parsed_are_refused_by_name(metadata):
    with pytest.raises(ValueError, match="cannot parse the metadata at the top of NAME"):
        parsed(f"---\n{metadata}\n---\n", "NAME")


LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (f"{LAUGHS}license: *a9", "more than 1,048,576 characters, with its aliases written out"),
        (f"license: {'x' * 2**20}", "more than 1,048,576 characters"),
        ("license: &a [*a]", r"the alias \*a stands for nothing, or for what it is in"),
        ("license: *a", r"the alias \*a stands for nothing"),
    ],
)
def test_metadata_that_stand_for_more_than_they_say_are_refused_in_few_words(metadata, message):
    with pytest.raises(ValueError, match=message) as error:
        parsed(f"---\n{metadata}\n---\n", "NAME")
    assert len(str(error.value)) < 500


def test_a_small_alias_is_read():
    assert parsed("---\na: &x mit\nlicense: *x\n---\n").data.to_dict() == {"a": "mit", "license": "mit"}


@pytest.mark.parametrize("template", ["sae_card.md", "subset_card.md"])
def test_templates_contain_one_section(template):
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    literal = SECTION_BEGIN.format(name="subset") in text and SECTION_END.format(name="subset") in text
    assert literal or ("{{ SECTION_BEGIN.format(" in text and "{{ SECTION_END.format(" in text)
