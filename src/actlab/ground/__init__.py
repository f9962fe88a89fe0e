"""The ground floor: errors, options, storage, manifest, units, seeds, layer specs, progress.

Nothing here imports torch or numpy, so that a wrong flag is answered at once.
"""
