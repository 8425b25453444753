"""Our guidances as guiders of Modular Diffusers.

guider.py       `Guider`, the diffusers guider, and what it hands to the pipeline's loop
running.py      which pipeline runs a guider: what the loop knows and does not tell
conditions.py   what the network is given under a condition; a list of conditions that grows while the loop goes through it
texts.py        further prompts, encoded by the pipeline's own text encoder block
steps.py        one run of a pipeline, from its first step to its last
"""
