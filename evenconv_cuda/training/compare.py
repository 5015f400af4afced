"""Stub."""


def add_options(parser):
    pass


def run(options):
    pass
