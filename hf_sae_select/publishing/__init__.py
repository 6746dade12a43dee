"""A subset on the Hub, with proof of how it was selected, and checking one.

In: a selected Dataset, or a published repo. Out: a folder, a commit, a `Verification`.
May import: every wing but `training`.
"""
