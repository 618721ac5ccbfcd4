"""A second corpus: three-dimensional people who do not exist, in the clip format of ``training.corpus``."""
