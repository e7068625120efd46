-- Up to which counter results of a device's epoch may lie beyond what is acknowledged there, because they went ahead as
-- alerts. What is beyond both marks was never stored, and need not be looked for: a push of new results asks no table
-- of results anything.
CREATE TABLE result_ahead (
    shard        int    NOT NULL,
    tenant       text   NOT NULL,
    device_alias int    NOT NULL,
    epoch        int    NOT NULL,
    highest      int    NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias, epoch)
);
INSERT INTO result_ahead
SELECT held.shard, held.tenant, held.device_alias, held.epoch, max(held.counter)
FROM (
    SELECT shard, tenant, device_alias, epoch, counter FROM result_row
    UNION ALL SELECT shard, tenant, device_alias, epoch, counter FROM quarantined_row
    UNION ALL SELECT shard, tenant, device_alias, epoch::int, counter FROM tombstone WHERE kind = 1
) AS held
LEFT JOIN device_progress AS progress ON progress.shard = held.shard AND progress.tenant = held.tenant
    AND progress.device_alias = held.device_alias AND progress.epoch = held.epoch
WHERE held.counter > coalesce(progress.acknowledged, 0)
GROUP BY held.shard, held.tenant, held.device_alias, held.epoch;
