"""Makes the shipped pipeline: draws portraits, then trains every network that stands on them."""
