"""Measures, and asserts nothing: what nibble serves beside what the bare library computes, in one run.

``python -m benchmarks`` runs the workloads in turn and prints ratios. Machines are noisy, so the bare library and
the server take turns, round by round, and only the ratio of the two is worth keeping.
"""
