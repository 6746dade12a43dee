"""Make a sparse autoencoder, and measure one.

In: a Dataset or hidden states. Out: a trained `SparseAutoencoder`; `Quality` and `L0Check` of any.
May import: `encoding`, `sae` and the package's private files.
"""
