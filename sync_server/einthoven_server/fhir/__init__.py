"""Results as HL7 FHIR R4: one Observation (what the rhythm looks like) and one RiskAssessment (how soon to look).

It deliberately claims no outcome and no diagnosis, and takes nothing in.

``mapping``, ``capability`` and ``outcome`` are pure, ``application`` holds the addresses. Imports ``records``,
``identity`` and ``audit``.
"""
