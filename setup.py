"""All metadata is in setup.cfg; this file lets older pips build it."""

from setuptools import setup

setup()
