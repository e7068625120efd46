"""Who is asking, and what they may do: tenants, patients' opaque ids, principals, enrolment codes, devices.

It deliberately holds no name, birth date or address of anyone; a patient is an opaque random id.

``permissions``, ``codes`` and ``callers`` are pure, ``store`` is the database, ``guard`` puts authentication,
permission and audit around every operation of every application, ``application`` holds the addresses. Imports ``audit``
and nothing of the other sub-packages.
"""
