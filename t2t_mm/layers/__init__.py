"""Maths on tensors; knows neither problems nor modalities.

Shape letters, the same everywhere in the project:

B batch, S source length, L target length (or any length, where there is one),
D hidden size, H heads, K head size, E experts, k experts per position,
V vocabulary or classes, F filters, C channels, N positions of a whole batch, T samples.

Masks are bool, true where there is something. Padded positions are zeroed before
every convolution, hidden from attention and routed to no expert, so padding never
changes a real position.
"""
