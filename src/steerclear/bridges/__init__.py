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
weak/           what a guidance pushes away from, made from what people have
loading.py      a model by its name, with what is added to it
samplers.py     schedulers by the names that people type
files.py        where a model's files are, and what they are
loras.py        LoRAs by name
placement.py    where networks run, and where they wait
asking.py       what to call a pipeline with, whatever its family
guiders/        steering for Modular Diffusers: a guidance as one of its guiders
"""
