"""The rooms that know the insides of other houses: diffusers' pipelines and the guiders of Modular Diffusers.

families.py     what kinds of pipelines there are; one declaration per family
negatives.py    negative prompts: are they there, once, and short enough to be read?
networks.py     networks beside the pipeline's own: are they given, do they differ, and running them
effects.py      settings of a call that have no effect, or another than it seems
branches.py     from the pipeline's own network call to one that runs the branches a guidance asks for
takeover.py     replacing an object's methods and a module's call, reversibly
diffusers/      `with steer(pipe, guidance) as run:`
modular/        a guidance as a guider of Modular Diffusers
"""
