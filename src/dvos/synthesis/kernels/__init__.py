"""The inner loops, compiled by numba.

Everything here is plain integer or float64 arithmetic in a fixed order: no threads, no fast-math. A
pixel depends on its place in the frame only, never on the window that is rendered, and so the same
pixel has the same value in every window, process and run.
"""
