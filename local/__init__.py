"""The laptop stack: every part of the pipeline on one machine, and the commands that run it."""
