"""What a sparse autoencoder is, and reading anybody's.

In: a Hub repo, a folder or a file in any known layout. Out: `SparseAutoencoder`, saved, pushed and with its card.
May import: the package's private files. Knows no datasets.
"""
