"""Selection over shards of rows: the same picks as in one process, wherever the shards are.

A driver asks all shards the same question and gets an answer from each: a round trip. `shards.py` says how it calls
them, `shard.py` what they hold and answer, and `engine.py` which algorithms run on them.
"""
