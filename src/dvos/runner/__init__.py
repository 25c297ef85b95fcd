"""Runs a function over many items: processes, resume, progress, clean stops.

A stage gives ``Task`` objects to ``run_tasks``; a manifest beside the outputs notes what is done.
"""
