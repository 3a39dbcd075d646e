"""Nests under the name that they had on this floor."""

from numgrad.nest import *
