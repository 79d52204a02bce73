"""Checkpoints of PyTorch models: one file a family says how to recognise it, its names and its config values.

`recognise.read(source, options)` is the way in. torch is imported only inside the functions that need it: a
training directory and a safetensors file are read without.
"""
