"""Which rows.

In: a FeatureMatrix or a Dataset, and a request (method, budget, constraints). Out: `Selection`, the result.
May import: `features`, `encoding` (when it has to encode) and the package's private files. Loads no torch itself.
"""
