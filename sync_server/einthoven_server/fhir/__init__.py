"""HL7 FHIR R4: what devices found, as Observation, RiskAssessment, DiagnosticReport, Provenance; and patients.

It deliberately claims no outcome and no diagnosis, and takes in patients' demographics only.

Pure: ``search_*``, ``result_columns``, ``result_search``, ``mapping``, ``reports``, ``templates``, ``patients``,
``transactions``, ``scopes``, ``capability``, ``outcome``. IO: ``result_index``, ``patient_store``, ``blind_index``,
``devices``, ``*_addresses``, ``exports``, ``application``. Imports ``records``, ``identity`` and ``audit``.
"""
