-- A patient's entries of the audit log, for AuditEvent and `audit report`: by the patient an entry names first, and the few
-- entries that name further ones.
CREATE INDEX audit_entry_patient ON audit_entry (shard, tenant, patient, seq);
CREATE INDEX audit_entry_others ON audit_entry (shard, tenant, seq) WHERE others <> '';
