"""Loaded by each Python process that has this folder in its path: notes what it syncs."""

import os

import forgetful_disk

forgetful_disk.note_syncs(os.environ["FORGETFUL_ROOT"], os.environ["FORGETFUL_KEPT"])
