"""Engines: where work runs that is too large for one process. `encoding` and `selection` call them.

An engine knows neither rows nor features. It makes objects where its workers are, and calls their methods: workers
that share tasks (`work.py`), or shards that answer together (`ray_shards.py`, `process_shards.py`). Nothing here is
imported before an engine is asked for, and Ray only by `cluster.py`.
"""
