"""Arrow files of the cache: a damaged one is named, and never read as if it were whole."""

import re

import pytest
from datasets import Dataset, Features, List, Value

from hf_sae_select._arrow import CHECKSUM_BYTES, open_file, write_tables

ROWS = [{"ids": [1, 2], "acts": [0.5, 0.25], "sha": "a"}, {"ids": [], "acts": [], "sha": "b"}]
TYPES = Features({"ids": List(Value("uint16")), "acts": List(Value("float16")), "sha": Value("string")})


@pytest.fixture
def file(tmp_path):
    table = Dataset.from_list(ROWS, TYPES).data.table
    write_tables(tmp_path / "codes-1.arrow", TYPES.arrow_schema, [table.slice(0, 1), table.slice(1, 1)], 2)
    return tmp_path / "codes-1.arrow"


def test_a_file_is_read_as_it_was_written(file):
    assert open_file(file).to_list() == ROWS and open_file(file).features == TYPES


@pytest.mark.parametrize("bit", [1, 128])
def test_each_flipped_bit_is_noticed(file, bit):
    content = file.read_bytes()
    for place in range(0, len(content), 3):
        file.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        with pytest.raises(OSError, match=rf"the cache file {re.escape(str(file))} is damaged .*; delete it"):
            open_file(file)


def test_each_cut_is_noticed_but_that_of_the_checksum_alone(file):
    content = file.read_bytes()
    for size in range(len(content)):
        file.write_bytes(content[:size])
        if size == len(content) - CHECKSUM_BYTES:  # as earlier versions wrote files
            assert open_file(file).to_list() == ROWS
        else:
            with pytest.raises(OSError, match="is damaged"):
                open_file(file)


def test_other_readers_see_the_rows_alone(file):
    assert Dataset.from_file(str(file)).to_list() == ROWS


def test_a_key_of_chats_may_always_be_none_beside_a_column_of_another_type(tmp_path):
    turns = [{"role": "user", "calls": None}, {"role": "assistant"}]
    rows = Dataset.from_dict({"messages": [turns, turns[1:]], "n": [1, 2]})
    types = Features({**rows.features, "n": Value("int8")})
    table = Dataset.from_list([{"n": 1, "messages": turns}, {"n": 2, "messages": turns[1:]}]).data.table
    write_tables(tmp_path / "rows.arrow", types.arrow_schema, [table], 2)
    assert open_file(tmp_path / "rows.arrow").to_list() == rows.to_list()
    assert open_file(tmp_path / "rows.arrow").features == types
