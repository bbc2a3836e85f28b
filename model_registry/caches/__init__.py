"""Models that other programs have fetched to this machine: found on disk, and linked without copying.

Each module knows one program's layout. They only read, and leave out what is damaged: somebody else's cache is no
concern of ours.
"""
