-- An instance leaves some four dead rows in its life; the search for those that must end reads past their entries.
ALTER TABLE instances SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_insert_threshold = 10000);
ALTER TABLE ended_attempts SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
ALTER TABLE notices SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
