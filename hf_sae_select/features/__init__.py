"""An encoded dataset as a sparse matrix.

In: the code columns of a Dataset. Out: `FeatureMatrix`, and numbers about its rows.
May import: the package's private files. Loads no torch, and loads numba only when it counts.
"""
