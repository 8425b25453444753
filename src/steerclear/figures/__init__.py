"""Results drawn: one file a figure. Figures only draw; whatever is computed is computed before, in measurements.

The only room that imports matplotlib. Every figure is a function from results to a ``Figure`` without global state.
"""
