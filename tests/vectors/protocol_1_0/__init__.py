"""The codec of the first version 1, before anything was added to it, frozen: what devices and servers in the field run.

It is a copy of its modules as they were, under another name. Never change it; ``test_two_versions`` lets the two speak.
"""
