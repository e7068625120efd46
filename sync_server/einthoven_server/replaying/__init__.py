"""Replay as a service: devices' results are recomputed from their stored signals, and those that differ are flagged.

A device's result is a pure function of model, front end and signal. So the server can say of any stored result whether
it is what the model says of the signal that came with it: a broken device, a changed app or a forged result shows.
"""
