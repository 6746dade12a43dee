"""A subset on the Hub with the record of how it was selected, and verifying one.

Input: a selected Dataset, or a published repo. Output: a folder, a commit, a `Verification`.
It imports every wing but `training`.
"""
