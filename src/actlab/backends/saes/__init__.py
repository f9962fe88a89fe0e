"""Sparse autoencoders made elsewhere or here: find their folders, load their encoders, encode.

A further family is one `Family` in the table of `families`, of this package or of a plugin.
"""
