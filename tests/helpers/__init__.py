"""What tests of several wings share: tiny models, pools, repos of other publishers, forged subsets."""
