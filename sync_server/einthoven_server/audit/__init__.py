"""Who did what to whose record, when, and whether it was allowed: an append-only chain that every request ends in.

It deliberately holds no patient data and no reason in free text: opaque ids, names of operations, names of outcomes.

``chain`` is the pure part, ``log`` the store, ``trail`` what a request carries until its entry is written. Imports
nothing of the other sub-packages; all of them import it.
"""
