"""The server's own description, OpenAPI 3.1: generated from its routes, the permission table and the bodies' shapes.

``document`` makes it (pure), ``shapes`` says what each operation takes and gives, ``addresses`` serves it. Nothing is
described by hand that the server knows better itself.
"""
