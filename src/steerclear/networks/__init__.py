"""Weak networks: what a guidance pushes away from, made from what people have. One kind a file.

base.py               what a kind promises
other_network.py      another checkpoint or snapshot
without_lora.py       the network without its LoRA
with_lora.py          the network with one LoRA more
dropped_layers.py     the network with layers left out
dropout.py            the network with dropout, seeded per image
noised_weights.py     the network with noise on its weights
quantized_weights.py  the network with few bits a weight
narrow_context.py     the network that sees the beginning of the text
naming.py             a weak network from what people type, hand over or have stored
copies.py             a network beside a network, which shares all that is the same
changed_weights.py    a second set of weights
adapters.py           other LoRA adapters on than the pipeline has
"""
