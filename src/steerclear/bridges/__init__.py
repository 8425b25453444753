"""The rooms that know the insides of other houses.

steer.py        `with steer(pipe, guidance) as run:`, the way in
families.py     what kinds of pipelines there are; one declaration a family
negatives.py    negative prompts: are they there, once, and short enough to be read?
takeover.py     replacing an object's methods and a module's call, reversibly
branches.py     from the pipeline's own network call to one that runs the branches a guidance asks for
texts.py        further prompts, encoded by the pipeline itself
labels.py       classes in the place of prompts
controlnet.py   a ControlNet, run again for a branch whose text it has not seen
effects.py      settings of a call that have no effect, or another than it seems
call.py         one call of a steered pipeline, from its first step to its last
guiders/        the same for Modular Diffusers: a guidance as one of its guiders
"""
