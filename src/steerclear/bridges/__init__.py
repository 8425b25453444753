"""The rooms that know the insides of other houses: diffusers' pipelines and the guiders of Modular Diffusers.

families.py     the kinds of pipelines; one declaration per family
negatives.py    negative prompts: are they given, given once, and short enough to be read?
networks.py     networks beside the pipeline's own: are they given, do they differ, and running them
effects.py      settings of a call that have no effect, or a surprising one
branches.py     from the pipeline's own network call to one that runs the branches a guidance asks for
texts.py        further prompts: encoded when a branch first asks for them, and remembered
surroundings.py what a run gives to guidances and evidences that look
takeover.py     replacing an object's methods and a module's call, reversibly
diffusers/      `with steer(pipe, guidance) as run:`
modular/        a guidance as a guider of Modular Diffusers
"""
