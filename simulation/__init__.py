"""A simulated city: source systems that behave like the real ones, with a known ground truth.

Nothing here imports the platform, so that the truth files are an independent judge of it.
Run ``python -m simulation generate`` and ``python -m simulation serve``; see ``simulation/README.md``.
"""
