"""Training on image data sets, and what is done with a checkpoint of it: five commands of ``python -m evenconv_cuda``.

They run on Lightning and come with ``pip install evenconv-cuda[train]``; nothing here imports it before a command runs.
"""
