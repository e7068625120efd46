-- Only with declarative partitions
-- (elsewhere this step is passed over, and result_row stays one table; ADR 22)
--
-- Results lie apart by the month in which they were committed, which their commit_seq tells: month << 38, and on from
-- there (records/result_months.py). What is there already stays where it is, as the first part: it is read once, and
-- moved nowhere. Parts have the keys of before, since a key of the whole would have to name commit_seq.
ALTER TABLE result_row RENAME TO result_row_first;
ALTER INDEX result_row_pkey RENAME TO result_row_first_pkey;
ALTER INDEX result_row_feed RENAME TO result_row_first_feed;
CREATE TABLE result_row (LIKE result_row_first) PARTITION BY RANGE (commit_seq);
ALTER TABLE result_row ATTACH PARTITION result_row_first FOR VALUES FROM (MINVALUE) TO (274877906944);

-- For what no month was made for. Nothing lawful comes here, and what did would not be lost.
CREATE TABLE result_row_other PARTITION OF result_row DEFAULT;
ALTER TABLE result_row_other ADD CONSTRAINT result_row_other_pkey
    PRIMARY KEY (shard, tenant, device_alias, epoch, counter);
CREATE INDEX result_row_other_feed ON result_row_other (shard, tenant, patient_id, commit_seq);

-- In which month, counted from January 1970, the shard's results now come to lie; NULL until housekeeping first looked.
ALTER TABLE shard_head ADD COLUMN month int;
