-- The audit log as an RFC 9162 tree beside its chain, with checkpoints; and what an entry says beyond operation and
-- patient. Entries of before keep their form (1) and their MACs; the server puts them into the tree when it starts.
-- `others` are ids of further patients concerned, parted by spaces.
ALTER TABLE audit_entry
    ADD COLUMN form        smallint NOT NULL DEFAULT 1,
    ADD COLUMN role        text     NOT NULL DEFAULT '',
    ADD COLUMN resource    text     NOT NULL DEFAULT '',
    ADD COLUMN resource_id text     NOT NULL DEFAULT '',
    ADD COLUMN purpose     text     NOT NULL DEFAULT '',
    ADD COLUMN others      text     NOT NULL DEFAULT '';

-- `frontier` holds the roots of the largest complete subtrees; `seal` is a MAC over the whole head, without which an
-- owner of the database could put the tree, or the log's end, where he likes.
ALTER TABLE audit_head
    ADD COLUMN tree_size bigint NOT NULL DEFAULT 0,
    ADD COLUMN frontier  bytea  NOT NULL DEFAULT '',
    ADD COLUMN seal      bytea  NOT NULL DEFAULT '';

-- Complete subtrees of 256, 65,536 ... leaves (levels 8, 16 ...), so that a proof reads hundreds of rows, not millions.
CREATE TABLE audit_node (
    shard    int      NOT NULL,
    tenant   text     NOT NULL,
    level    smallint NOT NULL,
    position bigint   NOT NULL,
    hash     bytea    NOT NULL,
    PRIMARY KEY (shard, tenant, level, position)
);

CREATE TABLE audit_checkpoint (
    shard     int    NOT NULL,
    tenant    text   NOT NULL,
    size      bigint NOT NULL,
    signed_ms bigint NOT NULL,
    note      text   NOT NULL,
    PRIMARY KEY (shard, tenant, size)
);
