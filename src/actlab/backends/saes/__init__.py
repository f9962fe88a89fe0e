"""Sparse autoencoders made elsewhere or here: find their folders, load their encoders, encode.

A further family is one module with a `read` that turns a folder into `SaeFacts`, named in `find.FAMILIES`.
"""
